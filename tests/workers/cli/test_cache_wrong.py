"""`headrace cache wrong`: an answer that was wrong is called back from all who have it, on each database."""

import json
from types import SimpleNamespace

import pytest
from sqlalchemy import select, update
from tests.services.kafka import KafkaServer
from tests.services.records import read
from tests.workers.cli.conftest import Call
from tests.workers.cli.test_cache import cache, entry_of, fits, served_by_likeness, shared, states  # noqa: F401
from tests.workers.core.ledger.conftest import ledger  # noqa: F401 - a fixture
from tests.workers.features.cache.semantic.conftest import Flow, asks, flow, tiers  # noqa: F401 - fixtures
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
from tests.workers.ledger_jobs import take_in

from headrace_producers.admin import ensure_topics
from headrace_schemas import Topic
from headrace_schemas.codec import decode
from headrace_schemas.job import derive_job_id
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS, STEPS
from headrace_workers.features.cache.tables import ENTRIES, SERVES

DAY_MS = 86_400_000
UNKNOWN = "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"


@pytest.mark.parametrize("named", [0, 1, 2])
def test_a_wrong_answer_is_called_back_from_all_who_have_it(cache: Call, flow: Flow, shared: list[str], asks, named):  # noqa: F811
    served_by_likeness(flow, UNKNOWN, shared[0])
    code, out, said = cache("wrong", shared[named], "--reason", "the old price", "--json")
    found = json.loads(out)
    assert code == 0
    assert said == f"answer {entry_of(flow, shared[0])}: it is given to nobody any more; 3 jobs were given it\n"
    assert (found["killed"], found["withdrawn"], found["rerun"]) == (1, 0, None)
    assert [(row["job_id"], row["tier"], row["similarity"], row["state"]) for row in found["served"]] == [
        (shared[1], "coalesced", None, "done"), (shared[2], "exact", None, "done"),
        (UNKNOWN, "semantic", 0.9512, "gone"),
    ]  # fmt: skip
    (answer,) = found["answers"]
    assert (answer["first_job"], answer["state"], answer["reason"]) == (shared[0], "dead", "wrong: the old price")
    assert states(flow) == ["dead", "live"]
    (again,) = flow.send(asks(idempotency_key="5"))
    flow.drain()
    assert tiers(flow, [again]) == ["none"]
    code, out, said = cache("wrong", shared[named])
    assert (code, fits(out)) == (0, True)
    assert all(job in out for job in (*shared[1:3], UNKNOWN))
    assert "as before; 3 jobs were given it" in said


@pytest.mark.parametrize("ends", [True, False])
def test_who_read_it_just_before_is_listed_too(cache: Call, flow: Flow, shared: list[str], asks, monkeypatch, ends):  # noqa: F811
    """They are waited for; where that takes too long it is said."""
    (late,) = flow.send(asks(idempotency_key="late"))
    (claim,) = flow.ledger.claim([Wanted("recall", 0, 1, 9)], lease_ms=60_000, sender="b").claims
    started = flow.ledger.start(claim.id, worker="w", lease_ms=60_000)
    assert started is not None
    settled = flow.work.do(started)

    def wait(_seconds: float) -> None:
        flow.ledger.complete(claim.id, settled, ran_ms=1, quantum_ms=5_000)

    # The command's alone: other threads of this process sleep, too.
    monkeypatch.setattr(
        "headrace_workers.features.cache.commands.cache.time", SimpleNamespace(sleep=wait, monotonic=lambda: 0.0)
    )
    if not ends:
        monkeypatch.setattr("headrace_workers.features.cache.commands.cache.WAIT_SECONDS", -1.0)
    code, out, said = cache("wrong", shared[0], "--json")
    assert (code, late in [row["job_id"] for row in json.loads(out)["served"]]) == (0, ends)
    assert ("1 groups began their look-ups before this" in said) is not ends


def test_an_answer_that_is_being_made_is_withdrawn(cache: Call, flow: Flow, asks):  # noqa: F811
    jobs = flow.send(asks(idempotency_key="1"), asks(idempotency_key="2"))
    flow.run("recall")
    leader = next(job for job, state in zip(jobs, flow.states(jobs), strict=True) if state == "done")
    found = json.loads(cache("wrong", leader, "--json")[1])
    assert (found["killed"], found["withdrawn"], found["served"]) == (0, 1, [])
    assert (states(flow), "parked" in flow.states(jobs)) == ([], False)
    flow.drain()
    assert tiers(flow, jobs) == ["none", "none"]


def test_an_answer_that_is_forgotten_is_still_traced(cache: Call, flow: Flow, shared: list[str]):  # noqa: F811
    with writing(flow.ledger.engine) as tx:
        for table in (ENTRIES, STEPS, JOBS):
            tx.execute(table.delete())
    for job in shared[:3]:
        found = json.loads(cache("wrong", job, "--json")[1])
        assert [(row["job_id"], row["state"]) for row in found["served"]] == [(shared[1], "gone"), (shared[2], "gone")]
        assert found["answers"][0]["state"] == "gone"


def test_whom_it_was_given_is_known_for_longer_than_jobs_are(cache: Call, flow: Flow, shared: list[str]):  # noqa: F811
    def let_pass(days: int) -> None:
        with writing(flow.ledger.engine) as tx:
            for column in (JOBS.c.accepted_at, JOBS.c.ended_at, SERVES.c.served_at):
                tx.execute(update(column.table).values({column.name: column - days * DAY_MS}))
        while flow.ledger.prune(DAY_MS):
            pass

    let_pass(80)
    assert flow.ledger.read(select(JOBS.c.id)) == []
    found = json.loads(cache("wrong", shared[0], "--json")[1])
    assert [(row["job_id"], row["state"]) for row in found["served"]] == [(shared[1], "gone"), (shared[2], "gone")]
    assert states(flow) == ["dead", "live"]
    let_pass(11)
    assert flow.ledger.read(select(SERVES.c.id)) == []


def test_a_job_of_which_nothing_was_kept_has_nothing_to_call_back(cache: Call, flow: Flow, asks):  # noqa: F811
    (alone,) = flow.send(asks(cache="off"))
    flow.drain()
    code, out, said = cache("wrong", alone)
    assert (code, out, "there is nothing to recall" in said) == (1, "", True)
    assert cache("wrong", UNKNOWN) == (1, "", f"{UNKNOWN}: the ledger knows no such job\n")


@pytest.fixture
def kafka(embedded_kafka: KafkaServer, fresh_prefix: str, cache: Call, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    """A broker for the command, with topics of its own."""
    settings = embedded_kafka.settings(fresh_prefix)
    ensure_topics(settings)
    monkeypatch.setenv("HEADRACE_KAFKA", settings.address)
    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", fresh_prefix)
    return settings


def test_all_who_have_a_wrong_answer_are_answered_afresh_once(
    cache: Call, kafka, flow: Flow, shared: list[str]  # noqa: F811
):  # fmt: skip
    served_by_likeness(flow, UNKNOWN, shared[0])
    entry = entry_of(flow, shared[0])
    code, out, said = cache("wrong", shared[1], "--rerun", "--json")
    assert (code, f"{UNKNOWN}: not sent: its content is no longer in the ledger" in said) == (1, True)
    told = {row["job_id"]: row for row in json.loads(out)["rerun"]}
    keys = {job: f"rerun:{job}:{entry}" for job in shared[:3]}
    assert {job: row["rerun"] for job, row in told.items()} == {
        **{job: derive_job_id("default", key) for job, key in keys.items()}, UNKNOWN: None,
    }  # fmt: skip
    sent = [decode(record.headers, record.value)[1] for record in read(kafka, [Topic.GENERATION])]
    assert {job.metadata["rerun_of"]: job.idempotency_key for job in sent} == keys
    assert {(job.cache, job.prompt) for job in sent} == {("off", "Name a river.")}
    take_in(flow.ledger, sent)
    flow.drain()
    assert all(flow.result(told[job]["rerun"]).answer.recall is None for job in shared[:3])
    code, out, said = cache("wrong", shared[0], "--rerun")
    assert (code, fits(out), "0 sent again" in said, out.count("sent before")) == (1, True, True, 3)
    assert len(read(kafka, [Topic.GENERATION])) == 3


@pytest.mark.integration
def test_without_a_broker_the_answer_is_dead_all_the_same(cache: Call, flow: Flow, shared: list[str], monkeypatch):  # noqa: F811
    monkeypatch.setenv("HEADRACE_KAFKA", "127.0.0.1:1")
    code, out, said = cache("wrong", shared[0], "--rerun", "--json")
    assert (code, "Traceback" in said) == (1, False)
    assert len(json.loads(out)["served"]) == 2
    assert states(flow) == ["dead", "live"]


def test_who_was_cancelled_is_not_asked_again(cache: Call, kafka, flow: Flow, asks):  # noqa: F811
    (first,) = flow.send(asks(idempotency_key="1"))
    flow.drain()
    (second,) = flow.send(asks(idempotency_key="2"))
    flow.run("recall")
    flow.ledger.cancel(Cancellation(second, "default", "enough"))
    code, _, said = cache("wrong", first, "--rerun")
    assert (code, "1 sent again" in said) == (1, True)
    assert f"{second}: not sent: it is cancelled: it told nobody an answer" in said
