"""One claimed step of a generation job, what steps say of it, and what settling makes of that."""

import random
from datetime import UTC, datetime

from tests.workers.runtime.bridge.records import generation

from headrace_schemas import Answer, Moderated, ModerationVerdict, Output, Result, Usage
from headrace_schemas.codec import encode_value
from headrace_workers.core.ledger.leases import Started, StepRow
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.settle import Conditions, settle, task_of
from headrace_workers.core.pipeline.stage import Stage
from headrace_workers.core.tables import NEVER

JOB_ID = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"
NOW = 1_800_000_000_000


def row(**changes):
    known = {
        "job_id": JOB_ID, "tenant": "shop", "kind": "generation",
        "job_payload": encode_value(generation(tenant="shop")),
        "traceparent": "00-trace", "correlationid": "corr", "replays": 0,
        "accepted_at": NOW - 2_000, "attempts": 1, "ready_at": NOW - 1_500,
        "event_type": "headrace.job.generation.v1", "payload": None, "lane": 1, "rank": 4, "deadline": NEVER,
        "turn": 77, "tokens": 12, "ordinal": 0, "context": None, "woken_by": None, "held_at": None, "subject": None,
        "endpoint": None, "due": NEVER, "batch": None,
    }  # fmt: skip
    return StepRow(**(known | changes))


def settled(outcome, stage="generate", pipeline=None, max_attempts=3, **changes):
    given_row = row(**changes)
    pipeline = pipeline or Pipeline()
    known = pipeline.stage(stage)
    started = Started(1, known.queue("echo") if known else stage, stage, "g", False, 12, NOW, (given_row,))
    conditions = Conditions(pipeline, max_attempts, random.Random(1), ran_ms=250.04)
    return settle(started, given_row, task_of(given_row), outcome, conditions)


def outcome_settled(outcome, task, stage="generate", model=None):
    """Return the outcome that settling makes of what a step said of the first attempt of this task, by this model or
    the job's first.
    """
    pipeline = Pipeline()
    model = model or task.job.first_model
    deadline = NEVER if task.seconds_left is None else NOW + int(task.seconds_left * 1000)
    given_row = row(job_id=task.job_id, job_payload=encode_value(task.job), deadline=deadline)
    started = Started(1, pipeline.stage(stage).queue(model), stage, "g", False, 12, NOW, (given_row,))
    return settle(started, given_row, task, outcome, Conditions(pipeline, 3, random.Random(1), ran_ms=0.0)).outcome


def answer(text):
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    return Answer(text=text, finish_reason="stop", model="echo", quantization="none", usage=usage)


def output(text="hello"):
    return Output(job_id=JOB_ID, tenant="shop", answer=answer(text))


def moderated():
    verdict = ModerationVerdict(action="allow")
    return Moderated(job_id=JOB_ID, tenant="shop", answer=answer("hello"), moderation=verdict)


def stub(tasks):
    raise AssertionError(tasks)


STAGES = Pipeline().stages
GENERATE, *BEHIND = STAGES[next(place for place, stage in enumerate(STAGES) if stage.name == "generate") :]
# Two stages that take what `generate` and `moderate` say.
TWICE = (GENERATE, BEHIND[0], Stage(name="again", order=55, takes=(Output,), step=stub))


def result():
    return Result(job_id=JOB_ID, tenant="shop", status="completed", kind="generation", accepted_at=datetime.now(UTC))
