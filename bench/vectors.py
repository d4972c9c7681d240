"""Embedders whose vectors are known beforehand, so that two sides see the very same."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace_schemas import GenerationJob
from headrace_schemas.recall import CacheMode
from headrace_workers.features.cache.semantic.lookup import Lookup
from headrace_workers.features.cache.semantic.nearest import NearestQuestions
from headrace_workers.models.embedders.embedder import Embedder


class KnownVectors:
    """Gives each text the vector that it has in a table; KeyError for a text that is not there.

    With `first`, that embedder computes vectors too, which are thrown away: it is there for the time it takes.
    """

    def __init__(self, table: Mapping[str, NDArray[np.float32]], first: Embedder | None = None) -> None:
        self.id = "known"
        self.dimensions = len(next(iter(table.values())))
        self.max_tokens = 0
        self._table = table
        self._first = first

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """A row for each."""
        if self._first is not None:
            self._first.embed(texts)
        if len(texts) == 1:  # a look-up's, to which it should add nothing
            return self._table[texts[0]][None]
        return np.stack([self._table[text] for text in texts])


def clustered(count: int, dimensions: int, seed: int = 0) -> NDArray[np.float32]:
    """Rows of length 1 in groups of twenty: cosines within a group are about 0.89, and 0 between groups."""
    random = np.random.default_rng(seed)
    centres = _unit(random.standard_normal((max(1, count // 20), dimensions), dtype=np.float32))
    return near(centres[random.integers(len(centres), size=count)], 0.35, seed + 1)


def near(rows: NDArray[np.float32], distance: float, seed: int) -> NDArray[np.float32]:
    """Each row moved by about so much into any direction, and of length 1 again: cosine 1 / √(1 + distance²)."""
    moved = np.random.default_rng(seed).standard_normal(rows.shape, dtype=np.float32)
    return _unit(rows + np.float32(distance) * _unit(moved))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def lookup_of(text: str, scope: str) -> Lookup:
    """A look-up by likeness of a question in this scope."""
    lookup = Lookup("", GenerationJob(model="echo", prompt=text), CacheMode.SEMANTIC)
    lookup.scope = scope
    return lookup


def entries_served(likeness: NearestQuestions, lookups: Sequence[Lookup]) -> list[int | None]:
    """The entry that each look-up would be served."""
    likeness.nearest(lookups)
    return [lookup.near.entry_id if lookup.near and lookup.kind == "hit" else None for lookup in lookups]
