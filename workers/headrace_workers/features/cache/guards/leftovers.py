"""The words of one question that the other does not have."""

from typing import Final

from headrace_workers.features.cache.guards.affixes import denies
from headrace_workers.features.cache.guards.opposites import opposite
from headrace_workers.features.cache.guards.paraphrases import alike
from headrace_workers.features.cache.guards.profile import Profile

# Beyond this, words are held together by their stems alone: pairs would cost the square.
_PAIRED: Final = 40


def leftovers(asked: Profile, cached: Profile) -> tuple[list[str], list[str]]:
    """Return the keys of content in each question that the other does not have in any form, in order."""
    # What is said twice on one side and once on the other is no difference.
    mine = [key for key in asked.content if key not in cached.content]
    yours = [key for key in cached.content if key not in asked.content]
    if not mine or not yours or len(mine) > _PAIRED or len(yours) > _PAIRED:
        return mine, yours
    return _unpaired(mine, yours)


def _unpaired(mine: list[str], yours: list[str]) -> tuple[list[str], list[str]]:
    left = list(yours)
    unmatched = []
    for key in mine:
        match = next((other for other in left if _same(key, other)), None)
        if match is None:
            unmatched.append(key)
        else:
            left.remove(match)
    return unmatched, left


def _same(one: str, other: str) -> bool:
    """Return True if two stems ask for the same. The guard of negations counts what a prefix denies."""
    return (alike(one, other) and not opposite(one, other)) or denies(one, (other,)) or denies(other, (one,))
