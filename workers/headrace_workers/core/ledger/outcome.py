"""Outcomes of a step for one task, and the rows that a step wants written with them. Control flow lives elsewhere: a
step only says how it went.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from headrace_schemas import Category, HeadraceError, Usage
from headrace_schemas.errors import EndCode, Unparsable
from headrace_schemas.events import Attempt, JobEvent
from headrace_schemas.output_format import Failure
from headrace_schemas.reasons import reason_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table


class ProviderBusy(HeadraceError):
    """A provider that takes no more calls for now. `after` is in how many seconds to ask it again; `is_sure` tells
    whether it takes calls then, or that is a guess.
    """

    category = Category.REROUTABLE

    def __init__(self, message: str, *, after: float | None = None, is_sure: bool | None = None) -> None:
        super().__init__(message)
        self.after = after
        self.is_sure = after is not None if is_sure is None else is_sure


class StepWrite(Protocol):
    """Something that is written in the transaction that completes a step."""

    def write(self, connection: "Connection") -> object:
        """Write the rows. Rows that exist are skipped."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row. If its key is there already, it is skipped."""

    table: "Table"
    values: Mapping[str, Any]

    def write(self, connection: "Connection") -> None:
        """Write it."""
        from headrace_workers.core.sql.database import insert

        connection.execute(insert(connection, self.table).values(dict(self.values)).on_conflict_do_nothing())


@dataclass(frozen=True, slots=True)
class Done:
    """The step did its work. The job goes on with `event`, which is published, or else with the event it came with.

    `also` are published before `event`. `context` maps names to JSON: every later stage is given it, and nobody else.
    `rows` are written in the same transaction. `to` names the next stage, which may be an earlier one; without it
    routing decides. `model` says which one is to run it, where that is not for the stage to say. `tokens` is what the
    job costs from here on, where that has changed. `usage` are the tokens of the step's model, where no answer says so.
    `to_train` are the tokens that are left for the training of `model`, which the next step begins or goes on with, and
    `trained` those that this step is charged for. `advice` ends the reason of a job that may not make its next call.
    """

    event: JobEvent | None = None
    also: tuple[JobEvent, ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[StepWrite, ...] = ()
    to: str | None = None
    model: str | None = None
    tokens: int | None = None
    usage: Usage | None = None
    to_train: int | None = None
    trained: int = 0
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The job ends with this event: its terminal record. `also` are published before it. `usage` are the tokens of the
    step's model, where no answer says so. A model that was not `asked` costs nothing.
    """

    event: JobEvent
    also: tuple[JobEvent, ...] = ()
    rows: tuple[StepWrite, ...] = ()
    usage: Usage | None = None
    asked: bool = True


@dataclass(frozen=True, slots=True)
class Retry:
    """The task is worth another attempt. The stage's schedule sets the delay; it is at least `after` seconds.

    A `REROUTABLE` one is tried at once with another model, if the stage knows of one. `otherwise` is used when no
    attempt is left, or no time before the deadline: the job goes on, ends or is held with it. Without it the job is
    then dead. `context` is handed to the next attempt and to every later stage. One that may be `billed`, such as an
    answer that broke off, is charged with the most that it may cost; one with `usage` is charged for these tokens.

    `failure` and `place` say why the answer does not have the format that its job asks for, and where. The next attempt
    may write `more_tokens` than the job's routing reserved.
    """

    reason: str
    after: float = 0.0
    category: Category = Category.TRANSIENT
    otherwise: "Done | Ended | Held | None" = None
    context: Mapping[str, Any] = field(default_factory=dict)
    billed: bool = False
    usage: Usage | None = None
    failure: Failure | None = None
    place: str | None = None
    more_tokens: int = 0


@dataclass(frozen=True, slots=True)
class JobEnd:
    """The end of a job, in whatever way."""

    job_id: str

    @property
    def key(self) -> str:
        """Return the name under which the ledger keeps what a step waits for."""
        return self.job_id


@dataclass(frozen=True, slots=True)
class Signal:
    """A call of `wake` with this name, of 36 characters at most, such as the id of an endpoint that works again."""

    name: str

    @property
    def key(self) -> str:
        """Return the name under which the ledger keeps what a step waits for."""
        return self.name


@dataclass(frozen=True, slots=True)
class Wait:
    """The step is run again when this happens, and after `at_most` seconds in any case. Without `until` time alone
    wakes it.

    Costs no attempt, lease or slot.
    """

    until: JobEnd | Signal | None
    reason: str
    at_most: float | None = None

    def __post_init__(self) -> None:
        if self.until is None and self.at_most is None:
            raise ValueError("a wait for nothing needs a time at which it ends")


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A model gave no answer, for this error. Settling decides what follows: another attempt, another model, a wait
    for this one, or the job's end.

    `attempt` is its record in the receipt; None where nobody wants the answer any more. Nobody may ask the model for
    `opens_in` seconds; `until` is the signal that this is over. With `again` the model is asked once more before
    another. Without another attempt the job goes on with `otherwise`, where that is there.
    """

    error: HeadraceError
    attempt: Attempt | None = None
    opens_in: float = 0.0
    until: Signal | None = None
    again: bool = False
    otherwise: Done | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A person must decide. Once released, the step is run again; withheld, past its deadline, or held for longer than
    the deployment says, the job is dead.

    Where it needs no person, because something is down, the step is run again by itself, at ever longer intervals.
    Costs no attempt, lease or slot. `known` is what the person needs for a decision, as JSON: see `task.HELD`.
    """

    reason: str
    needs_person: bool = True
    known: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dead:
    """The task cannot be done: the job ends in `dead` with this reason, and this code, if its sender can act on it. The
    other fields are as of `Retry`.
    """

    category: Category
    reason: str
    billed: bool = False
    usage: Usage | None = None
    failure: Failure | None = None
    place: str | None = None
    code: EndCode | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """The unit is no longer wanted: it ends with this reason, and without a dead letter. A job cannot be dropped."""

    reason: str


UNSAID_SECONDS: Final = 30.0  # where a provider does not say when it takes calls again

Settled = Done | Ended | Retry | Wait | Held | Dead | Dropped  # what the ledger is told of a step
Outcome = Settled | Unanswered


def outcome_of(error: HeadraceError) -> Retry | Wait | Dead:
    """Return the outcome of a task that failed with an error: the error's category decides. A busy provider is waited
    for.
    """
    if isinstance(error, ProviderBusy):
        return wait_for(error)
    reason = reason_of(error)
    failure, place = (error.failure, error.place) if isinstance(error, Unparsable) else (None, None)
    if error.category.retryable:
        return Retry(reason, category=error.category, billed=error.billed, failure=failure, place=place)
    return Dead(error.category, reason, billed=error.billed, failure=failure, place=place, code=error.end_code)


def wait_for(busy: ProviderBusy) -> Wait:
    """Return the wait of a task whose provider takes no calls for now."""
    return Wait(None, reason_of(busy), at_most=UNSAID_SECONDS if busy.after is None else busy.after)
