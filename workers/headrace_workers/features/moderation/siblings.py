"""Texts that one template made, or that were copied: they count as one source, whatever source they name."""

import re
from collections.abc import Sequence
from typing import Final

_WORD: Final = re.compile(r"\w+")
_SHARED: Final = 0.5  # of the three-word sequences of the shorter text
_READ: Final = 200  # words of a text
_MOST: Final = 50  # texts that are kept for one sequence; one that many texts have says little


def origins(texts: Sequence[str], sources: Sequence[str]) -> list[str]:
    """Return the source of each text. A sibling of an earlier text has the source of that one.

    Two texts are siblings if they share half of the three-word sequences of the shorter one.
    """
    return [sources[family] for family in families(texts)]


def families(texts: Sequence[str]) -> list[int]:
    """Return for each text the place of the first of its siblings; its own where it has none before it."""
    first: list[int] = []
    sizes: list[int] = []
    owners: dict[tuple[str, ...], list[int]] = {}
    for place, text in enumerate(texts):
        sequences = _sequences(text)
        shared: dict[int, int] = {}
        for sequence in sequences:
            for other in owners.get(sequence, ()):
                shared[other] = shared.get(other, 0) + 1
        alike = [other for other, n in shared.items() if n >= _SHARED * min(len(sequences), sizes[other])]
        first.append(first[min(alike)] if alike else place)
        sizes.append(len(sequences))
        for sequence in sequences:
            known = owners.setdefault(sequence, [])
            if len(known) < _MOST:
                known.append(place)
    return first


def _sequences(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.lower())[:_READ]
    return {tuple(words[at : at + 3]) for at in range(max(1, len(words) - 2))}
