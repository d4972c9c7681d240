from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from headrace_producers import MemoryProducer
from headrace_schemas import Contains, EvaluationJob, GenerationJob
from headrace_schemas.codec import encode_value
from headrace_schemas.limits import MAX_VALUE_BYTES
from headrace_workers.features.cache.commands.cache import New, Rerun, renewed, send

JOB = "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"


def row(state: str = "done", **asks: Any) -> Any:
    job = GenerationJob.model_validate({"model": "echo", "prompt": "Name a river.", "cache": "exact", **asks})
    return SimpleNamespace(kind="generation", state=state, payload=encode_value(job), correlationid="order 7")


def test_the_new_job_asks_the_same_and_names_the_old():
    """Without looking up, and without a deadline that may have passed; all else stays, the correlation id too."""
    asked = {"tenant": "acme", "lane": "batch", "metadata": {"a": "b"}, "max_age": 5.0, "idempotency_key": "1",
             "deadline": datetime(2026, 1, 1, tzinfo=UTC), "sampling": {"max_tokens": 7}}  # fmt: skip
    new = renewed(JOB, 17, row(**asked))
    assert isinstance(new, New)
    assert (new.job.cache, new.job.max_age, new.job.deadline) == ("off", None, None)
    assert new.job.metadata == {"a": "b", "rerun_of": JOB}
    assert (new.job.tenant, new.job.lane, new.job.sampling.max_tokens) == ("acme", "batch", 7)
    producer, told = MemoryProducer(), []
    send([new], producer, told.append)
    (record,) = producer.records
    assert told == [Rerun(JOB, new.job_id, "sent")]
    assert (record.job_id, dict(record.headers)["ce_correlationid"]) == (new.job_id, b"order 7")


def test_the_same_job_and_answer_are_the_same_new_job():
    one, same, other = (renewed(JOB, entry, row(idempotency_key="1")) for entry in (17, 17, 18))
    assert isinstance(one, New)
    assert one == same
    assert isinstance(other, New)
    assert one.job_id != other.job_id


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (None, "no longer in the ledger"),
        (row("dead"), "it is dead"),
        (row("cancelled"), "it is cancelled"),
        (row(metadata={str(n): "" for n in range(32)}), "its metadata has no room for `rerun_of`"),
        (
            SimpleNamespace(kind="evaluation", state="done", correlationid=None, payload=encode_value(
                EvaluationJob(input="", output="x", criteria=(Contains(text="x"),)))),
            "of the kind evaluation",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_says_why(known: Any, reason: str):
    made = renewed(JOB, 17, known)
    assert isinstance(made, Rerun)
    assert (made.rerun, made.state, reason in (made.reason or "")) == (None, "not sent", True)


def test_who_names_an_old_job_already_names_this_one():
    full = {"rerun_of": "another"} | {str(n): "" for n in range(31)}
    new = renewed(JOB, 17, row(metadata=full))
    assert isinstance(new, New)
    assert new.job.metadata["rerun_of"] == JOB


def test_one_that_has_grown_too_large_holds_no_other():
    turns = [{"role": "user", "content": "x" * 180_000}] * 5
    room = MAX_VALUE_BYTES - len(row(prompt=None, messages=[*turns, {"role": "user", "content": ""}]).payload)
    turns.append({"role": "user", "content": "x" * room})
    large, small = renewed(JOB, 17, row(prompt=None, messages=turns)), renewed(JOB, 18, row())
    assert isinstance(large, New)
    assert isinstance(small, New)
    told: list[Rerun] = []
    send([large, small], MemoryProducer(), told.append)
    assert [rerun.state for rerun in told] == ["not sent", "sent"]
