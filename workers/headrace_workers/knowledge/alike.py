"""Texts that say nearly the same in nearly the same words: of these the first is kept. Pure.

Exact, not estimated: the Jaccard similarity of the sets of shingles (three words in a row). Only texts that share one
of their rarest shingles are compared, since others cannot be so alike (prefix filtering: Bayardo, Ma and Srikant,
"Scaling up all pairs similarity search", WWW 2007).
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from headrace_workers.knowledge.words import words

LEAST: Final = 0.9
_WORDS: Final = 3
_ROUNDING: Final = 1e-9  # 0.7 × 10 is a little more than 7

_Shingle = tuple[str, ...]


def distinct(texts: Sequence[str], least: float = LEAST) -> list[int]:
    """The places of the texts to keep: those whose likeness to each kept before is below `least` (above 0, to 1)."""
    if not 0.0 < least <= 1.0:
        raise ValueError(f"texts cannot be {least} alike: from above 0 to 1")
    sets = [_shingles(text) for text in texts]
    spread = Counter(shingle for each in sets for shingle in each)
    kept: list[int] = []
    holders: dict[_Shingle, list[int]] = {}
    for place, shingles in enumerate(sets):
        ordered = sorted(shingles, key=lambda shingle: (spread[shingle], shingle))
        prefix = ordered[: len(ordered) - math.ceil(least * len(ordered) - _ROUNDING) + 1]
        candidates = {other for shingle in prefix for other in holders.get(shingle, ())}
        if any(_likeness(shingles, sets[other]) >= least for other in candidates):
            continue
        kept.append(place)
        for shingle in prefix:
            holders.setdefault(shingle, []).append(place)
    return kept


def _shingles(text: str) -> frozenset[_Shingle]:
    """Texts of fewer words are one shingle; a text without words is itself."""
    found = words(text)
    if not found:
        return frozenset({(text,)})
    return frozenset(tuple(found[i : i + _WORDS]) for i in range(max(1, len(found) - _WORDS + 1)))


def _likeness(one: frozenset[_Shingle], other: frozenset[_Shingle]) -> float:
    return len(one & other) / len(one | other)
