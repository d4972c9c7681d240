"""The vectors themselves, in the order in which they came: appended to, never moved or overwritten.

A `Rows` is a value: the rows that a search holds do not change while others append. Later values share its memory and
use what lies behind its end. So only the newest may be changed, and by one thread at a time; anyone may read any of
them.
"""

from dataclasses import dataclass

import numpy as np

from headrace_workers.features.knowledge.index.vector_checks import Flags, Floats, Ids, Positions

_BLOCK = 4096  # rows that are copied in one go, so that other threads are not held up


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """`len(alive)` rows: vectors (at least so many, dimension), their ids, and which of them still live."""

    vectors: Floats
    ids: Ids
    alive: Flags
    living: int

    @classmethod
    def empty(cls, dimension: int) -> "Rows":
        """Return no rows, for vectors of this many dimensions."""
        return cls(np.empty((0, dimension), np.float32), np.empty(0, np.int64), np.empty(0, np.bool_), 0)

    @property
    def dimension(self) -> int:
        """The number of components of a vector."""
        return int(self.vectors.shape[1])

    @property
    def count(self) -> int:
        """The number of rows, dead ones included."""
        return len(self.alive)

    @property
    def dead(self) -> int:
        """The number of rows that no longer live."""
        return self.count - self.living

    def changed(self, dying: Positions, ids: Ids, vectors: Floats) -> "Rows":
        """Return these rows without those at `dying` (all alive, none twice), and with new ones at the end."""
        before, after = self.count, self.count + len(ids)
        kept_vectors, kept_ids = self.vectors, self.ids
        if after > len(kept_ids):
            room = max(after, before + before // 2)
            kept_vectors = np.empty((room, self.dimension), np.float32)
            kept_ids = np.empty(room, np.int64)
            _copy(self.vectors[:before], kept_vectors)
            kept_ids[:before] = self.ids[:before]
        kept_vectors[before:after] = vectors
        kept_ids[before:after] = ids
        alive = np.empty(after, np.bool_)
        alive[:before] = self.alive
        alive[dying] = False
        alive[before:] = True
        return Rows(kept_vectors, kept_ids, alive, self.living - len(dying) + len(ids))

    def packed(self, positions: Positions) -> "Rows":
        """Return a copy of the rows at these positions alone, in their order, with some room to grow."""
        count = len(positions)
        room = count + count // 8
        vectors, ids = np.empty((room, self.dimension), np.float32), np.empty(room, np.int64)
        for start in range(0, count, _BLOCK):
            end = min(start + _BLOCK, count)
            vectors[start:end] = self.vectors[positions[start:end]]
        ids[:count] = self.ids[positions]
        return Rows(vectors, ids, np.ones(count, np.bool_), count)


def _copy(source: Floats, target: Floats) -> None:
    for start in range(0, len(source), _BLOCK):
        target[start : start + _BLOCK][: len(source) - start] = source[start : start + _BLOCK]
