"""All guards, in the order in which they run: the guards with the clearest reasons come first."""

from dataclasses import dataclass
from typing import Final, Protocol

from headrace_workers.features.cache.guards.question_type import AskedFor
from headrace_workers.features.cache.guards.roles import Directions, Roles
from headrace_workers.features.cache.guards.unmatched_words import Residual
from headrace_workers.features.cache.guards.wording import Dates, Negation, Numbers, Repeats, Tense
from headrace_workers.text.profile import Profile, have_same_reading


class Guard(Protocol):
    """Compares two questions in one respect, in time linear in their texts. One that raises is taken for a refusal."""

    @property
    def name(self) -> str:
        """The aspect that it checks; receipts and statistics name it."""

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why the answer to `cached` must not be served for `asked`, in words for people; None where they
        agree.
        """


@dataclass(frozen=True, slots=True)
class Refusal:
    """The guard that refused, and its reason."""

    guard: str
    reason: str


GUARDS: Final[tuple[Guard, ...]] = (
    Numbers(),
    Dates(),
    Negation(),
    AskedFor(),
    Directions(),
    Roles(),
    Tense(),
    Repeats(),
    Residual(),
)


def refusal(asked: Profile, cached: Profile) -> Refusal | None:
    """Return the first refusal of a guard; None where all agree that both questions ask for the same.

    No guard refuses a question against itself, so none runs if both read alike. A guard's exception is passed on: the
    caller treats it as a refusal and logs it.
    """
    if have_same_reading(asked, cached):
        return None
    for guard in GUARDS:
        reason = guard.refuse(asked, cached)
        if reason is not None:
            return Refusal(guard.name, reason)
    return None


def against(asked: Profile, cached: Profile) -> list[str]:
    """Return the names of all guards that refuse, in order."""
    return [guard.name for guard in GUARDS if guard.refuse(asked, cached) is not None]
