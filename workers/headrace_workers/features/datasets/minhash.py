"""MinHash (Broder 1997) with banding: which sets share a given part of their elements, without comparing every pair.

As in Leskovec, Rajaraman and Ullman, *Mining of Massive Datasets*, chapter 3.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

HASHES = 128
_STEPS = 1_000  # of the integrals
_ELEMENTS = 4_096  # that are hashed at once: 4 MB

Sketch = NDArray[np.uint32]  # (HASHES,)

# Multiply-shift hashing (Dietzfelbinger 1996) of elements that are hashes themselves.
_DRAWN = np.random.default_rng(1)
_FACTORS = _DRAWN.integers(2**64, size=(HASHES, 1), dtype=np.uint64) | np.uint64(1)
_ADDENDS = _DRAWN.integers(2**64, size=(HASHES, 1), dtype=np.uint64)


def sketch_of(elements: list[bytes]) -> Sketch:
    """Return the least of each hash over the elements, which are digests of 8 bytes. At least one is needed."""
    numbers = np.frombuffer(b"".join(elements), dtype=np.uint64)
    least = np.full(HASHES, 2**32 - 1, dtype=np.uint32)
    for start in range(0, len(numbers), _ELEMENTS):
        hashes = (_FACTORS * numbers[start : start + _ELEMENTS] + _ADDENDS) >> np.uint64(32)
        np.minimum(least, hashes.min(axis=1).astype(np.uint32), out=least)
    return least


def likeness(a: Sketch, b: Sketch) -> float:
    """Return the estimated share of elements that two sets have in common (Jaccard)."""
    return float((a == b).mean())


class Bands:
    """An index of sketches. Two are candidates where all hashes of at least one band are equal."""

    def __init__(self, threshold: float) -> None:
        """Choose bands for pairs that are at least this much alike."""
        bands, rows = shape(threshold)
        self._slices = [slice(start, start + rows) for start in range(0, bands * rows, rows)]
        self._kept: list[dict[bytes, list[int]]] = [{} for _ in self._slices]

    def candidates(self, sketch: Sketch) -> set[int]:
        """Return the keys of sketches that may be alike."""
        found: set[int] = set()
        for band, kept in zip(self._slices, self._kept, strict=True):
            found.update(kept.get(sketch[band].tobytes(), ()))
        return found

    def insert(self, key: int, sketch: Sketch) -> None:
        """Keep a sketch under its key."""
        for band, kept in zip(self._slices, self._kept, strict=True):
            kept.setdefault(sketch[band].tobytes(), []).append(key)


@cache
def shape(threshold: float) -> tuple[int, int]:
    """Return how many bands of how many hashes err least: false candidates below the threshold, misses above it."""
    alike = (np.arange(_STEPS) + 0.5) / _STEPS
    above = alike >= threshold
    errors = {}
    for bands in range(1, HASHES + 1):
        for rows in range(1, HASHES // bands + 1):
            found = 1.0 - (1.0 - alike**rows) ** bands
            errors[bands, rows] = float(np.where(above, 1.0 - found, found).sum())
    return min(errors, key=lambda each: errors[each])
