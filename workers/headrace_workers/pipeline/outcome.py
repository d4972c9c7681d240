"""What a step says about one task. Control flow lives elsewhere: a step only returns values."""

from dataclasses import dataclass

from headrace_schemas import Category, HeadraceError
from headrace_schemas.events import JobEvent
from headrace_schemas.limits import MAX_SHORT_TEXT


@dataclass(frozen=True, slots=True)
class Done:
    """The step did its work; the event goes to the topic of its type, and to the stages that consume that topic."""

    event: JobEvent


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now: worth another try. `after` is the least delay in seconds; the ledger adds its own backoff.

    `otherwise` is what the job goes on with when no attempt is left, or no time before its deadline: what is known
    without this step. Without it the job is then dead.
    """

    reason: str
    after: float = 0.0
    category: Category = Category.TRANSIENT
    otherwise: JobEvent | None = None


@dataclass(frozen=True, slots=True)
class Dead:
    """It cannot be done: the job ends in `dead` with this reason."""

    category: Category
    reason: str


Outcome = Done | Retry | Dead


def outcome_of(error: HeadraceError) -> Retry | Dead:
    """What an error means for its task: its category decides."""
    reason = reason_of(error)
    return Retry(reason, category=error.category) if error.category.retryable else Dead(error.category, reason)


def reason_of(error: HeadraceError) -> str:
    """The error's message as a reason: never empty, without NUL, and no longer than a short text may be."""
    return (str(error) or type(error).__name__).replace("\x00", "\ufffd")[:MAX_SHORT_TEXT]
