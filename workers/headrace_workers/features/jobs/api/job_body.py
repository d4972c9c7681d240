"""A job as HTTP tells of it: JSON made of what the ledger holds, of which the end is not read again. Pure."""

import json
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import type_of
from headrace_workers.core.ledger.job_status import Standing, StepRow

State = Literal["accepted", "active", "done", "dead", "cancelled", "refused"]

_TEXT: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_OVER: Final = frozenset({"done", "dead", "cancelled", "refused"})


class StepShape(BaseModel):
    """A step of a job: its stage, how often the job had gone back when the step began, and its state."""

    stage: str
    ordinal: int
    state: Literal["ready", "waiting", "parked", "held", "leased", "done", "dead", "cancelled"]
    attempts: int
    reason: str | None = None


class JobShape(BaseModel):
    """One job. `accepted`: it is safe, and not in the ledger yet; `refused`: it could not be run, and never was a job.

    `end` is the event that ended it, of `type`: what its receipt says, why it died, or that it was cancelled.
    """

    object: Literal["job"] = "job"
    id: str
    state: State
    kind: str | None = Field(None, description="generation, evaluation, embedding or moderation.")
    accepted_at: datetime | None = None
    ended_at: datetime | None = None
    steps: list[StepShape] = []
    type: str | None = None
    end: dict[str, Any] | None = None


def state_of(standing: Standing) -> State:
    """Return the state of a job."""
    if standing.row is None:
        return "refused" if standing.refused is not None else "accepted"
    state: State = standing.row.state
    return state


def is_over(standing: Standing) -> bool:
    """Return True if the job has ended."""
    return state_of(standing) in _OVER


def job_body(job_id: str, standing: Standing) -> bytes:
    """Return the body of a response about one job."""
    row = standing.row
    head: dict[str, Any] = {
        "object": "job",
        "id": job_id,
        "state": state_of(standing),
        "kind": None if row is None or row.kind == "unknown" else row.kind,
        "accepted_at": _time(standing.accepted_at),
        "ended_at": None if row is None else _time(row.ended_at),
        "steps": [step_body(step) for step in standing.steps],
    }
    if row is not None and row.end is not None:
        return _joined(head, *row.end)
    if standing.refused is not None:
        return _joined(head, type_of(standing.refused), encode_value(standing.refused))
    return _json({**head, "type": None, "end": None})


def step_body(step: StepRow) -> dict[str, Any]:
    """Return the body of a step."""
    return {
        "stage": step.stage,
        "ordinal": step.ordinal,
        "state": step.state,
        "attempts": step.attempts,
        "reason": step.reason,
    }


def accepted_body(job_id: str) -> dict[str, Any]:
    """Return the body for a job that was just admitted."""
    return {"object": "job", "id": job_id, "state": "accepted"}


def _joined(head: dict[str, Any], event_type: str, end: bytes) -> bytes:
    return _json({**head, "type": event_type})[:-1] + b',"end":' + end + b"}"


def _json(value: dict[str, Any]) -> bytes:
    return _TEXT.encode(value).encode("utf-8", "backslashreplace")


def _time(ms: int | None) -> str | None:
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
