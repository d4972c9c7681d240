"""Jobs as everybody sees them: over HTTP, by `--json` and in tables. Pure."""

import json
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from pydantic import BaseModel, Field

from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import type_of
from headrace_workers.cli.durations import Moment

if TYPE_CHECKING:  # they load the database
    from headrace_workers.core.ledger.job_status import JobView, Standing, StepRow
    from headrace_workers.core.ledger.outbox import SetAside

LANES: Final[tuple[Literal["interactive"], Literal["batch"]]] = ("interactive", "batch")

State = Literal["accepted", "active", "done", "dead", "cancelled", "refused"]
StepState = Literal["ready", "waiting", "parked", "held", "leased", "done", "dead", "cancelled"]


class StepObject(BaseModel):
    """A step of a job: one run of a stage."""

    stage: str = Field(description="The stage.")
    ordinal: int = Field(description="How often the job had gone back to an earlier stage when the step began.")
    state: StepState = Field(description="The state.")
    attempts: int = Field(description="How often the step was tried.")
    reason: str | None = Field(None, description="Why the step waits, is held or failed.")

    @classmethod
    def of(cls, step: "StepRow") -> Self:
        """Return the view of a step."""
        return cls(**_step(step))


class JobObject(BaseModel):
    """A job. `accepted` means that it is safe, but not in the ledger yet; `refused` that it never became a job."""

    object: Literal["job"] = "job"
    id: str = Field(description="The id of the job.")
    state: State = Field(description="The state of the job.")
    kind: str | None = Field(None, description="generation, evaluation, embedding, moderation or decision.")
    accepted_at: Moment = Field(None, description="When the ledger took the job.")
    ended_at: Moment = Field(None, description="When the job ended.")
    steps: tuple[StepObject, ...] = Field((), description="The steps so far, in their order.")
    type: str | None = Field(None, description="The type of the event that ended the job.")
    end: dict[str, Any] | None = Field(
        None, description="The data of that event: the result, the dead letter or the cancellation."
    )


def state_of(standing: "Standing") -> State:
    """Return the state of a job."""
    if standing.row is None:
        return "refused" if standing.refused is not None else "accepted"
    state: State = standing.row.state
    return state


def job_json(job_id: str, standing: "Standing") -> bytes:
    """Return the JSON of a `JobObject`. The event that ended the job is put in as the ledger has it, unread."""
    row = standing.row
    event_type, end = None, b"null"
    if row is not None and row.end is not None:
        event_type, end = row.end
    elif standing.refused is not None:
        event_type, end = type_of(standing.refused), encode_value(standing.refused)
    job = JobObject.model_validate(
        {
            "id": job_id,
            "state": state_of(standing),
            "kind": None if row is None else _kind(row),
            "accepted_at": standing.accepted_at,
            "ended_at": None if row is None else row.ended_at,
            "steps": tuple(map(_step, standing.steps)),
            "type": event_type,
        }
    )
    return job.model_dump_json().encode().removesuffix(b"null}") + end + b"}"


class StepDetails(StepObject):
    """A step as operators see it: where it waits or runs, by which worker, and how long it waited and ran (ms)."""

    queue: str
    lane: Literal["interactive", "batch"]
    started_at: Moment
    ended_at: Moment
    worker: str | None = Field(description="The worker that has the step in its hands.")
    waited_ms: int
    ran_ms: int | None

    @classmethod
    def in_full(cls, step: Any, now: int) -> Self:
        """Return the view of a step that a look-up found at this time (ms)."""
        began = step.begun_at if step.state == "leased" else step.started_at
        until = step.ended_at or now
        return cls(
            **_step(step),
            queue=step.queue,
            lane=LANES[step.lane],
            started_at=began,
            ended_at=step.ended_at,
            worker=step.worker,
            waited_ms=max(0, int((began or until) - step.ready_at)),
            ran_ms=None if began is None else max(0, int(until - began)),
        )


class UnitObject(BaseModel):
    """A unit that follows the events of a job, such as the delivery to an endpoint."""

    id: str
    stage: str
    endpoint: str
    state: StepState
    attempts: int
    reason: str | None


class SetAsideEvent(BaseModel):
    """An event that Kafka refused, and how many later events of its job wait behind it."""

    id: int
    topic: str
    job_id: str | None
    type: str
    size: int
    set_aside_at: Moment
    behind: int
    reason: str

    @classmethod
    def of(cls, event: "SetAside") -> Self:
        """Return the view of an event that was set aside."""
        return cls(
            id=event.id,
            topic=event.topic,
            job_id=event.key,
            type=event.event_type,
            size=event.size,
            set_aside_at=event.set_aside_at,
            behind=event.behind,
            reason=event.reason,
        )


class JobDetails(JobObject):
    """A job as operators see it. `age_ms`: from its acceptance to its end, or until now."""

    tenant: str
    correlationid: str | None
    replays: int
    age_ms: int
    steps: tuple[StepDetails, ...] = ()
    units: tuple[UnitObject, ...] = ()
    set_aside: tuple[SetAsideEvent, ...] = ()

    @classmethod
    def of(cls, view: "JobView", units: "tuple[Any, ...] | list[Any]" = ()) -> Self:
        """Return the view of a job, with the units that follow its events."""
        job = view.job
        return cls(
            id=job.id,
            state=job.state,
            kind=_kind(job),
            accepted_at=job.accepted_at,
            ended_at=job.ended_at,
            type=job.terminal_type,
            end=None if job.terminal is None else json.loads(bytes(job.terminal)),
            tenant=job.tenant,
            correlationid=job.correlationid,
            replays=job.replays,
            age_ms=(job.ended_at or view.now) - job.accepted_at,
            steps=tuple(StepDetails.in_full(step, view.now) for step in view.steps),
            units=tuple(UnitObject.model_validate(unit, from_attributes=True) for unit in units),
            set_aside=tuple(map(SetAsideEvent.of, view.set_aside)),
        )


def _step(step: Any) -> dict[str, Any]:
    return {
        "stage": step.stage,
        "ordinal": step.ordinal,
        "state": step.state,
        "attempts": step.attempts,
        "reason": step.reason,
    }


def _kind(job: Any) -> str | None:
    return None if job.kind == "unknown" else str(job.kind)
