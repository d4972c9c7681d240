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
    """A step of a job: one run of a stage."""

    stage: str = Field(description="The stage.")
    ordinal: int = Field(description="How often the job had gone back to an earlier stage when the step began.")
    state: Literal["ready", "waiting", "parked", "held", "leased", "done", "dead", "cancelled"] = Field(
        description="The state."
    )
    attempts: int = Field(description="How often the step was tried.")
    reason: str | None = Field(None, description="Why the step waits, is held or failed.")


class JobShape(BaseModel):
    """A job. `accepted` means that it is safe, but not in the ledger yet; `refused` that it never became a job."""

    object: Literal["job"] = "job"
    id: str = Field(description="The id of the job.")
    state: State = Field(description="The state of the job.")
    kind: str | None = Field(None, description="generation, evaluation, embedding or moderation.")
    accepted_at: datetime | None = Field(None, description="When the ledger took the job.")
    ended_at: datetime | None = Field(None, description="When the job ended.")
    steps: list[StepShape] = Field([], description="The steps so far, in their order.")
    type: str | None = Field(None, description="The type of the event that ended the job.")
    end: dict[str, Any] | None = Field(
        None, description="The data of that event: the result, the dead letter or the cancellation."
    )


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
