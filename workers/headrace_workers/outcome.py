"""What a step says about one task. Control flow lives elsewhere: a step only returns values."""

from dataclasses import dataclass

from headrace_schemas import Category
from headrace_schemas.events import JobEvent


@dataclass(frozen=True, slots=True)
class Done:
    """The step did its work; the event goes to the topic of its type, and to the stages that consume that topic."""

    event: JobEvent


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now: worth another try. `after` is the least delay in seconds; the ledger adds its own backoff."""

    reason: str
    after: float = 0.0
    category: Category = Category.TRANSIENT


@dataclass(frozen=True, slots=True)
class Dead:
    """It cannot be done: the job ends in `dead` with this reason."""

    category: Category
    reason: str


Outcome = Done | Retry | Dead
