"""Texts that have runs of words in common: duplicates, near duplicates, and items of evaluation sets."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_schemas.errors import ConfigurationError

_WORD: Final = re.compile(r"\w+")
NEAR: Final = 5  # words in a row, for likeness
SAME: Final = 13  # in a row, for a test that has leaked: as in Brown et al. 2020 (arXiv 2005.14165, appendix C)


def words_of(text: str) -> list[str]:
    """Return the words of a text, without case and punctuation."""
    return _WORD.findall(text.casefold())


def shingles(words: list[str], length: int) -> Iterator[bytes]:
    """Yield digests of all runs of so many words; of a shorter text, the digest of all its words."""
    for start in range(max(1, len(words) - length + 1)):
        yield hashlib.blake2b(" ".join(words[start : start + length]).encode(), digest_size=8).digest()


# MinHash (Broder 1997) with banding: which sets share a given part of their elements, without comparing every pair.
#
# As in Leskovec, Rajaraman and Ullman, *Mining of Massive Datasets*, chapter 3.

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
        bands, rows = bands_of(threshold)
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
def bands_of(threshold: float) -> tuple[int, int]:
    """Return how many bands of how many hashes err least: false candidates below the threshold, misses above it."""
    alike = (np.arange(_STEPS) + 0.5) / _STEPS
    above = alike >= threshold
    errors = {}
    for bands in range(1, HASHES + 1):
        for rows in range(1, HASHES // bands + 1):
            found = 1.0 - (1.0 - alike**rows) ** bands
            errors[bands, rows] = float(np.where(above, 1.0 - found, found).sum())
    return min(errors, key=lambda error: errors[error])


_MOST: Final = 0.9  # that the index is made for: it finds more then, and none is possible near 1


class Same:
    """Texts that were kept, each by a digest of its words: without case, punctuation and white space."""

    def __init__(self) -> None:
        self._lines: dict[bytes, int] = {}

    def line(self, text: str) -> int | None:
        """Return the line that has the same words in the same order, or None."""
        return self._lines.get(_digest(text))

    def keep(self, line: int, text: str) -> None:
        """Remember a text."""
        self._lines.setdefault(_digest(text), line)


class Near:
    """Texts that were kept, each by a sketch of half a kilobyte.

    How near two are is the share of their runs of five words that both have (Jaccard), estimated by MinHash (Broder
    1997): it lies within 0.09 of the truth in 19 of 20 cases.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._index = Bands(min(threshold, _MOST))
        self._sketches: dict[int, Sketch] = {}

    def line(self, number: int, text: str) -> tuple[int, float] | None:
        """Return the line that is most like this one, with the similarity; below the threshold return None, and keep
        the text.
        """
        sketch = sketch_of(list(shingles(words_of(text), NEAR)))
        found = [(line, likeness(sketch, self._sketches[line])) for line in sorted(self._index.candidates(sketch))]
        best = max(found, key=lambda each: each[1], default=None)
        if best is not None and best[1] >= self._threshold:
            return best
        self._sketches[number] = sketch
        self._index.insert(number, sketch)
        return None


def _digest(text: str) -> bytes:
    return hashlib.blake2b(" ".join(words_of(text)).encode(), digest_size=16).digest()


SHORT: Final = 5  # words; of a shorter item nothing is said, since it stands anywhere


class EvaluationSets:
    """Texts of evaluation sets, by their runs of 13 words; a shorter item by all of its words in a row."""

    def __init__(self) -> None:
        self._runs: dict[bytes, str] = {}
        self._lengths: set[int] = set()

    def add(self, text: str, where: str) -> bool:
        """Remember an item and its place. Return False for an item that is too short to be recognized."""
        words = words_of(text)
        if len(words) < SHORT:
            return False
        length = min(len(words), SAME)
        self._lengths.add(length)
        for run in shingles(words, length):
            self._runs.setdefault(run, where)
        return True

    def leaked(self, text: str) -> str | None:
        """Return the place of an item that shares a run of words with the text, or None."""
        words = words_of(text)
        for length in sorted(self._lengths, reverse=True):
            if len(words) >= length:
                found = next((self._runs[run] for run in shingles(words, length) if run in self._runs), None)
                if found is not None:
                    return found
        return None


def evaluation_sets(items: Iterable[tuple[str, str]], named: Iterable[str] = ()) -> EvaluationSets:
    """Return the evaluation sets of these texts with their places.

    Raise ConfigurationError where one of the sets `named` has no text that is long enough.
    """
    found, useful = EvaluationSets(), set[str]()
    for text, where in items:
        if found.add(text, where):
            useful.add(where)
    for name in named:
        if name not in useful:
            raise ConfigurationError(f"{name} has no item of {SHORT} words and more: there is nothing to keep out")
    return found
