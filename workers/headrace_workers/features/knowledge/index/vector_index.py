"""Vectors by id, and a search for the nearest: the part of one scope that a worker holds in memory.

Searches take no lock. Each looks at one `State`, a value that nobody changes; a change makes the next one beside it
and puts it in the place of the last. A rebuild does the same, and takes over at the end what changed meanwhile.
"""

import sys
import threading

import numpy as np
from numpy.typing import ArrayLike

from headrace_workers.features.knowledge.index.compaction import DEFAULTS, Limits, needs_rebuild, needs_sorting
from headrace_workers.features.knowledge.index.lists import Lists
from headrace_workers.features.knowledge.index.state import State
from headrace_workers.features.knowledge.index.vector_checks import (
    Floats,
    Ids,
    Positions,
    Table,
    checked_ids,
    checked_query,
    checked_vectors,
)
from headrace_workers.features.knowledge.index.vector_rows import Rows


class VectorIndex:
    """Vectors of unit length by id, and the nearest by inner product. Any thread may call anything at any time."""

    def __init__(self, dimension: int, limits: Limits = DEFAULTS) -> None:
        """Make an empty index for vectors of this many dimensions; it costs about 1 kB."""
        self._limits = limits
        self._changing = threading.Lock()
        self._compacting = threading.Lock()
        self._state = State.over(Rows.empty(dimension), None)
        self._places: dict[int, int] = {}  # the position of each living id; belongs to who holds `_changing`

    @classmethod
    def of(cls, state: State, limits: Limits = DEFAULTS) -> "VectorIndex":
        """Return an index that begins with this state, and is the only one that will change it."""
        index = cls(state.rows.dimension, limits)
        index._state, index._places = state, _places(state.rows)
        return index

    @property
    def state(self) -> State:
        """The index as it is now; it stays so while the index goes on."""
        return self._state

    @property
    def dimension(self) -> int:
        """The number of components of a vector."""
        return self._state.rows.dimension

    def __len__(self) -> int:
        """Return the number of vectors."""
        return self._state.rows.living

    @property
    def bytes(self) -> int:
        """Memory that it holds, about: dead rows until they are compacted, too, but no room to grow."""
        state = self._state
        row = state.rows.dimension * 4 + 8 + 1
        lists = 0 if state.lists is None else state.lists.bytes
        return state.rows.count * row + lists + sys.getsizeof(self._places) + 64 * len(self._places)

    def put(self, ids: ArrayLike, vectors: Table) -> None:
        """Add the vectors, (n, dimension) for n ids, or replace existing ones; see `apply`."""
        self.apply(ids, vectors)

    def remove(self, ids: ArrayLike) -> None:
        """Remove these ids; unknown ids are ignored."""
        self.apply((), (), ids)

    def apply(self, ids: ArrayLike, vectors: Table, removed: ArrayLike = ()) -> None:
        """Take out the ids of `removed`, then put the vectors, (n, dimension) for n ids; searches see all or nothing.

        An id that is there is replaced, and of an id that comes twice the last vector holds. VectorRefused names the
        first id whose vector is of the wrong length, not finite, or not of unit length; then nothing is changed.
        """
        coming, going = checked_ids(ids), checked_ids(removed)
        table = checked_vectors("id", coming.tolist(), vectors, self.dimension)
        last = _last_of_each(coming)
        coming, table = coming[last], table[last]
        with self._changing:
            places, before = self._places, self._state
            leaving = {key for key in (*going.tolist(), *coming.tolist()) if key in places}
            if not leaving and not len(coming):
                return
            dying = np.fromiter((places[key] for key in leaving), np.int64, len(leaving))
            after = State.over(before.rows.changed(dying, coming, table), before.lists)
            for key in leaving:
                del places[key]
            places.update(zip(coming.tolist(), range(before.rows.count, after.rows.count), strict=True))
            self._state = after

    def search(self, vectors: Table, k: int, among: ArrayLike | None = None) -> tuple[Floats, Ids]:
        """Return the k nearest to each of n vectors, (n, dimension): similarities (n, k) and ids (n, k), best first.

        Where there are fewer than k, the id is -1 and the similarity minus infinity. `among`: only these ids are looked
        at, each of them, however many there are. VectorRefused names the first vector, by its place, that is not of
        this index.
        """
        if k < 1:
            raise ValueError(f"k is {k}; at least 1 must be asked for")
        queries = checked_vectors("query", range(len(vectors)), vectors, self.dimension)
        if among is not None:
            return self._state.search_among(queries, k, checked_ids(among))
        return self._state.search(queries, k)

    def nearest(self, vector: Floats, k: int) -> list[tuple[int, float]]:
        """Return ids and similarities of the k nearest to one vector, (dimension,), best first.

        Fewer, where there are fewer. Little is done around FAISS's own search, since a look-up waits for it.
        """
        if k < 1:
            raise ValueError(f"k is {k}; at least 1 must be asked for")
        state = self._state
        return state.nearest(checked_query(vector, state.rows.dimension), k)

    def vectors_of(self, ids: ArrayLike) -> dict[int, Floats]:
        """Return the vectors of the ids that exist."""
        wanted = checked_ids(ids).tolist()
        with self._changing:
            rows = self._state.rows
            found = {key: self._places[key] for key in wanted if key in self._places}
        return {key: rows.vectors[place].copy() for key, place in found.items()}

    @property
    def due(self) -> bool:
        """True if `compact` would make searches faster, or free memory."""
        state = self._state
        return needs_rebuild(state, self._limits) or needs_sorting(state, self._limits)

    def compact(self) -> bool:
        """Rebuild or sort if it is due, and return True if it was. Call it in the background: it may take seconds.

        Searches and changes go on meanwhile. Usually the vectors outside the lists are sorted into a copy of them. An
        index that is needs_rebuild is built again from its live rows, and takes twice their memory meanwhile.
        """
        with self._compacting:
            state = self._state
            if needs_rebuild(state, self._limits):
                self._build(state)
            elif state.lists is not None and needs_sorting(state, self._limits):
                self._grow(state, state.lists)
            else:
                return False
            return True

    def _grow(self, before: State, lists: Lists) -> None:
        grown = lists.grown(before.rows.vectors[before.covered : before.rows.count])
        with self._changing:
            self._state = State.over(self._state.rows, grown)  # rows keep their positions: only `_build` moves them

    def _build(self, before: State) -> None:
        origin = np.flatnonzero(before.rows.alive)
        rows = before.rows.packed(origin)
        lists = Lists.built(rows.vectors[: rows.count]) if rows.count > self._limits.exact else None
        places = _places(rows)
        with self._changing:
            now = self._state.rows
            dying = np.flatnonzero(~now.alive[origin])
            late = before.rows.count + np.flatnonzero(now.alive[before.rows.count :])
            for key in rows.ids[dying].tolist():
                del places[key]
            places.update(zip(now.ids[late].tolist(), range(rows.count, rows.count + len(late)), strict=True))
            self._state = State.over(rows.changed(dying, now.ids[late], now.vectors[late]), lists)
            self._places = places


def _places(rows: Rows) -> dict[int, int]:
    at: Positions = np.flatnonzero(rows.alive)
    return dict(zip(rows.ids[at].tolist(), at.tolist(), strict=True))


def _last_of_each(ids: Ids) -> Positions:
    """Return the place of each id's last row, in order."""
    _, from_the_end = np.unique(ids[::-1], return_index=True)
    return np.sort(len(ids) - 1 - from_the_end)
