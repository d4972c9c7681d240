"""Texts that say nearly the same in nearly the same words: of these the first is kept. Pure.

Exact, not estimated: the Jaccard similarity of the sets of shingles (three words in a row). Only texts that share one
of their first shingles, in whatever order, are compared, since others cannot be so alike (prefix filtering: Bayardo, Ma
and Srikant, "Scaling up all pairs similarity search", WWW 2007). The order is that of hashes, and not of rarity, which
would need all texts read: a search wants ten of two hundred, and reading a text is what takes time.
"""

import math
from collections.abc import Sequence
from typing import Final

from headrace_workers.features.knowledge.words import words

LEAST: Final = 0.9
_WORDS: Final = 3
_ROUNDING: Final = 1e-9  # 0.7 × 10 is a little more than 7

_Shingle = tuple[str, ...]


def distinct(texts: Sequence[str], least: float = LEAST, most: int | None = None) -> list[int]:
    """Return the places of the texts to keep: a text stays if its likeness to each earlier one is below `least` (0 to
    1).

    With `most`, stop after so many.
    """
    if not 0.0 < least <= 1.0:
        raise ValueError(f"texts cannot be {least} alike: from above 0 to 1")
    kept: dict[int, frozenset[_Shingle]] = {}
    holders: dict[_Shingle, list[int]] = {}
    for place, text in enumerate(texts):
        if most is not None and len(kept) >= most:
            break
        shingles = _shingles(text)
        prefix = sorted(shingles, key=hash)[: len(shingles) - math.ceil(least * len(shingles) - _ROUNDING) + 1]
        candidates = {other for shingle in prefix for other in holders.get(shingle, ())}
        if any(_likeness(shingles, kept[other]) >= least for other in candidates):
            continue
        kept[place] = shingles
        for shingle in prefix:
            holders.setdefault(shingle, []).append(place)
    return list(kept)


def _shingles(text: str) -> frozenset[_Shingle]:
    """Texts of fewer words are one shingle; a text without words is itself."""
    found = words(text)
    if not found:
        return frozenset({(text,)})
    return frozenset(tuple(found[i : i + _WORDS]) for i in range(max(1, len(found) - _WORDS + 1)))


def _likeness(one: frozenset[_Shingle], other: frozenset[_Shingle]) -> float:
    return len(one & other) / len(one | other)
