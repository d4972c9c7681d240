"""Rows of review items and their jobs, written by hand as the queue and workers leave them."""

from uuid import uuid4

from sqlalchemy import insert
from tests.workers.core.ledger.rows import job, step, write

from headrace_schemas import (
    Answer,
    Finding,
    GenerationJob,
    JudgeVerdict,
    Moderated,
    ModerationVerdict,
    Output,
    Result,
    Score,
    Usage,
)
from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import type_of
from headrace_workers.core.pipeline.task import pack
from headrace_workers.core.tables import NEVER
from headrace_workers.features.reviews.decision import Decision, Person
from headrace_workers.features.reviews.tables import REVIEW_ITEMS

LEASE = 60_000
RANDOM = 2**50  # ranks of items that are not held begin there
ANN, BOB, EVE = (Person("a", who, f"key of {who}") for who in ("ann", "bob", "eve"))
ASKED = GenerationJob(model="m", prompt="How do I reach you?", tenant="a")
SAID = "Write to jo@headrace.io."
FOUND = ModerationVerdict(
    action="review",
    categories={"personal_data": True},
    findings=(Finding(category="email", detector="d", score=0.9, start=9, end=23, action="review"),),
    policy="p1",
)

ALLOWED = ModerationVerdict(action="allow")


def answer(text=SAID, **fields):
    used = Usage(prompt_tokens=3, completion_tokens=4)
    return Answer(text=text, finish_reason="stop", model="m", quantization="int8", usage=used, **fields)


def item(ledger, job_id, **fields):
    """An item about an ended answer, unless it is said otherwise; its id."""
    known = {
        "id": str(uuid4()), "tenant": "a", "job_id": job_id, "rule": "audit", "ordinal": 0, "replays": 0,
        "rank": RANDOM, "probability": 0.25, "wanted": 1, "state": "open", "made_at": 100,
    }  # fmt: skip
    row = known | fields
    write(ledger, insert(REVIEW_ITEMS).values(**row))
    return row["id"]


def ended(ledger, asked=ASKED, shown=None, verdict=ALLOWED, **fields):
    """A job that was answered, and an item about it: the ids of both."""
    job_id = str(uuid4())
    score = Score(criterion="rubric", name="helpful", value=0.3)
    end = Result(
        job_id=job_id, tenant=asked.tenant, status="completed", kind="generation", answer=shown or answer(),
        moderation=verdict, judge=JudgeVerdict(scores=(score,)),
        accepted_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    job(
        ledger, job_id, "done", asked.tenant, payload=encode_value(asked), ended_at=200, terminal_type=type_of(end),
        terminal=encode_value(end),
    )  # fmt: skip
    return job_id, item(ledger, job_id, tenant=asked.tenant, **fields)


def held(ledger, asked=ASKED, event=None, stage="moderate", known=None, **fields):
    """A job that is held for a person, and an item about it: the ids of both."""
    job_id = str(uuid4())
    job(ledger, job_id, "active", asked.tenant, payload=encode_value(asked))
    said = event or Output(job_id=job_id, tenant=asked.tenant, answer=answer())
    if isinstance(said, Output | Moderated):
        said = said.model_copy(update={"job_id": job_id})
    step(
        ledger, job_id, "held", stage, ready_at=NEVER, held_at=50, reason="why", event_type=type_of(said),
        payload=None if isinstance(said, GenerationJob) else encode_value(said),
        context=pack({"held": known} if known else {}, ()),
    )  # fmt: skip
    row = {"rule": "held", "stage": stage, "rank": 50, "probability": 1.0, **fields}
    return job_id, item(ledger, job_id, tenant=asked.tenant, **row)


def good(lease=None, value=1.0, **fields):
    return Decision(labels=({"criterion": "good", "value": value},), lease=lease, **fields)
