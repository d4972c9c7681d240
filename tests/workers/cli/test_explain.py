"""Why a job was given an earlier answer, or was not: what is read from receipts and steps that tests make by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from headrace_schemas import Answer, GenerationJob, Output, Usage
from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import type_of
from headrace_schemas.recall import Recall
from headrace_workers.cli.cache_views import explained_rows
from headrace_workers.cli.explain import Explained, explain
from headrace_workers.ledger.work.lookup import JobView
from headrace_workers.pipeline.carried import pack

JOB = "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"
OTHER = "8d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"


def step(state: str = "done", stage: str = "recall", **more: Any) -> Any:
    """A row of a job's steps."""
    rest = {"ordinal": 0, "reason": None, "waits_for": None, "woken_by": None, "ready_at": 0, "payload": None,
            "event_type": "headrace.job.generation.v1", "context": None, "begun_at": None, "worker": None}  # fmt: skip
    return SimpleNamespace(stage=stage, state=state, **{**rest, **more})


def found(*steps: Any, kind: str = "generation", **asks: Any) -> Explained:
    """What is said of a job with these steps that asked so."""
    asked = GenerationJob.model_validate({"model": "echo", "prompt": "Name a river.", "cache": "semantic", **asks})
    job = SimpleNamespace(id=JOB, kind=kind, payload=encode_value(asked), terminal=None, terminal_type=None)
    view: Any = JobView(job, steps, 0)  # type: ignore[arg-type]
    told = explain(JOB, view, [], [])
    assert told is not None
    return told


def handed_on(**found: Any) -> Any:
    """The step behind recall, which has what was found in its context."""
    return step("ready", "generate", context=pack({"recall": found}, ()))


def written(recall: Recall) -> Any:
    """The step behind generate, which has what was found in its event."""
    answer = Answer(text="x", finish_reason="stop", model="echo", quantization="none", recall=recall,
                    usage=Usage(prompt_tokens=1, completion_tokens=1))  # fmt: skip
    event = Output(job_id=JOB, tenant="default", answer=answer)
    return step("ready", "moderate", event_type=type_of(event), payload=encode_value(event))


@pytest.mark.parametrize("behind", [handed_on(similarity=0.97, refused="7 is not 8"),
                                    written(Recall(similarity=0.97, refused="7 is not 8"))])  # fmt: skip
def test_of_a_job_that_runs_it_is_read_from_its_steps(behind: Any):
    """What refused the nearest question, and how near it was, before there is a receipt."""
    told = found(step(), behind)
    assert (told.outcome, told.similarity, told.refused) == ("miss", 0.97, "7 is not 8")
    assert told.why == "the nearest known question (similarity 0.970): 7 is not 8"


@pytest.mark.parametrize(
    ("steps", "asks", "why"),
    [
        ([step(), handed_on(refused="the question is empty")], {}, "the question is empty"),
        ([step(), handed_on(similarity=0.9)], {}, "was older than the job's `max_age`, or had just died"),
        ([step(), handed_on()], {}, "no answer to it was known"),
        ([step(), handed_on()], {"max_age": 60.0}, "no older than 60 s (its `max_age`)"),
        ([step(woken_by=OTHER), handed_on()], {}, f"it waited for job {OTHER}, whose answer did not come in time"),
        ([step()], {}, "no answer to it was known"),
    ],
)
def test_each_miss_has_its_reason(steps: Any, asks: Any, why: str):
    """In words."""
    told = found(*steps, **asks)
    assert (told.outcome, why in told.why) == ("miss", True)


@pytest.mark.parametrize(
    ("steps", "outcome", "why"),
    [
        ([step("ready")], "open", "it has not been looked up yet: its step is ready"),
        ([step("waiting", reason="the ledger is away")], "open", "its step is waiting; the ledger is away"),
        ([step("leased", begun_at=1, worker="w@h")], "open", "by w@h"),
        ([step("parked", waits_for=OTHER, ready_at=9)], "waits", f"job {OTHER} is making the same answer"),
        ([step("dead", reason="poison")], "ended", "it was dead before it was looked up: poison"),
        ([step("cancelled")], "ended", "it was cancelled before it was looked up"),
        ([step("done"), step("ready", ordinal=1)], "open", "not been looked up yet"),
        ([step("ready", "judge")], "not asked", "it says `cache: semantic`"),
    ],
)
def test_what_has_not_come_to_a_miss_says_how_it_stands(steps: Any, outcome: str, why: str):
    """The last time counts, where a job came to recall more than once."""
    told = found(*steps)
    assert (told.outcome, why in told.why) == (outcome, True)


def test_what_is_not_known_is_left_out_of_the_table():
    """And what is known of one that waits is in it."""
    names = [name for name, _ in explained_rows(found(step("parked", waits_for=OTHER, ready_at=9)))]
    assert names == ["job", "outcome", "why", "cache", "waits for", "until"]


def test_of_what_nobody_knows_nothing_is_said():
    """Neither job nor anything that it was given."""
    assert explain(JOB, None, [], []) is None
