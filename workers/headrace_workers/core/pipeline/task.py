"""Input of a step: the job, and the event that brought it to this stage."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from headrace_schemas import Moderated, Output
from headrace_schemas.event_types import Event
from headrace_schemas.events import StageRecord
from headrace_schemas.job import AnyJob

Job = AnyJob
StepEvent = Job | Output | Moderated


@dataclass(frozen=True, slots=True)
class Task:
    """A job at a stage.

    `event` is the job itself, or what the last stage that published said. `context` is what stages before this one
    handed on without publishing it. `ordinal` says how often the job has gone back to an earlier stage. `stages` tells
    what each did so far. `woken_by` is set when this step waited: the job whose end it waited for, or `RELEASED`.
    `seconds_left` are those until the job's deadline, when its group began; None without one. `waited` are those since
    it first waited for its model; 0 before.
    """

    job_id: str
    job: Job
    event: StepEvent
    accepted_at: datetime
    attempt: int = 1
    context: Mapping[str, Any] = field(default_factory=dict)
    ordinal: int = 0
    stages: tuple[StageRecord, ...] = ()
    woken_by: str | None = None
    seconds_left: float | None = None
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Unit:
    """An event for one endpoint. `value` is the event as it was published; a delivery's content lies in a table of its
    own, and it has neither.

    `job` is there where the unit does once more what a job asked for, as an audit does.
    """

    id: str
    subject: str
    tenant: str
    endpoint: str
    event: Event | None
    value: bytes
    attempt: int = 1
    woken_by: str | None = None
    job: Job | None = None
