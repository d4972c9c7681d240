"""Questions in which two things may change places: how far they are from each other, and how they differ."""

from typing import Final

from headrace_workers.features.cache.guards.profile import Profile, read_once
from headrace_workers.features.cache.guards.stems import stem

_WORDS: Final = frozenset(
    stem(word)
    for word in ("distance", "apart", "differ", "difference", "different", "distinguish", "compare", "versus", "vs")
)


def symmetric(asked: Profile, cached: Profile) -> bool:
    """Return True if both are such questions: `how far is A from B` is `the distance from B to A`."""
    return _either_way(asked) and _either_way(cached)


@read_once
def _either_way(read: Profile) -> bool:
    return not read.keys.isdisjoint(_WORDS) or {"how", "far"} <= read.keys
