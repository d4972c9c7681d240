"""All guards, in the order in which they run: the guards with the clearest reasons come first."""

from typing import Final

from headrace_workers.features.cache.guards.dates import Dates
from headrace_workers.features.cache.guards.directions import Directions
from headrace_workers.features.cache.guards.form import Form, form
from headrace_workers.features.cache.guards.guard_protocol import Guard, Refusal
from headrace_workers.features.cache.guards.manner import Manner
from headrace_workers.features.cache.guards.negation import Negation
from headrace_workers.features.cache.guards.numbers import Numbers
from headrace_workers.features.cache.guards.profile import Profile, have_same_reading
from headrace_workers.features.cache.guards.question_type import AskedFor
from headrace_workers.features.cache.guards.roles import Roles
from headrace_workers.features.cache.guards.shared_words import SharedWords
from headrace_workers.features.cache.guards.unmatched_words import Residual

GUARDS: Final[tuple[Guard, ...]] = (
    Form(),
    Numbers(),
    Dates(),
    Negation(),
    AskedFor(),
    Directions(),
    Roles(),
    Manner(),
    SharedWords(),
    Residual(),
)


def refusal(asked: Profile, cached: Profile) -> Refusal | None:
    """Return the first refusal of a guard; None where all agree that both questions ask for the same.

    No guard refuses a question against itself, so none runs if both read alike. A guard's exception is passed on: the
    caller treats it as a refusal and logs it.
    """
    if have_same_reading(asked, cached) and form(asked) == form(cached):
        return None
    for guard in GUARDS:
        reason = guard.refuse(asked, cached)
        if reason is not None:
            return Refusal(guard.name, reason)
    return None


def against(asked: Profile, cached: Profile) -> list[str]:
    """Return the names of all guards that refuse, in order."""
    return [guard.name for guard in GUARDS if guard.refuse(asked, cached) is not None]
