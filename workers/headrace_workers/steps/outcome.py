"""What a step says about one task. Control flow lives elsewhere: a step only returns values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace_schemas import Category, HeadraceError
from headrace_schemas.events import JobEvent
from headrace_schemas.reasons import reason_of
from headrace_workers.ledger.rows import Row


@dataclass(frozen=True, slots=True)
class Done:
    """The step did its work, and the job goes on with `event`, which is published; without one, with what it came with.

    `also` are published before it. `context` (JSON, a name each) is published nowhere: it goes on with the job to every
    stage behind. `rows` are written with it. `to` names the stage that is next, or an earlier one; without it,
    routing decides.
    """

    event: JobEvent | None = None
    also: tuple[JobEvent, ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The job ends with this event: its terminal record. `also` are published before it."""

    event: JobEvent
    also: tuple[JobEvent, ...] = ()
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now: worth another try. `after` is the least delay in seconds; the stage's schedule adds its own.

    A `REROUTABLE` one is tried elsewhere at once, where the stage knows of another model. `otherwise` is what the job
    goes on or ends with when no attempt is left, or no time before its deadline: what is known without this step.
    Without it the job is then dead.
    """

    reason: str
    after: float = 0.0
    category: Category = Category.TRANSIENT
    otherwise: Done | Ended | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """The step is run again when that job has ended, whatever became of it. Costs no attempt, lease or slot."""

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """Nobody may go on with this until it is released, or withheld, or its deadline ends it. Costs no attempt, lease
    or slot. Released, the step is run again.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """It cannot be done: the job ends in `dead` with this reason."""

    category: Category
    reason: str


Outcome = Done | Ended | Retry | Wait | Held | Dead


def outcome_of(error: HeadraceError) -> Retry | Dead:
    """What an error means for its task: its category decides."""
    reason = reason_of(error)
    return Retry(reason, category=error.category) if error.category.retryable else Dead(error.category, reason)
