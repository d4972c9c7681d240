"""Vectors by id, and a search for the nearest: the part of one scope that a worker holds in memory.

Searches take no lock. Each looks at one `State`, a value that nobody changes; a change makes the next one beside it
and puts it in the place of the last. A rebuild does the same, and takes over at the end what changed meanwhile.
"""

import sys
import threading
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from headrace_workers.models.vectors.nearest import (
    NOWHERE,
    Bits,
    Found,
    Lists,
    best,
    nearest_of_all,
    nearest_to_one,
    nothing,
)
from headrace_workers.models.vectors.vectors import (
    Flags,
    Floats,
    Ids,
    Positions,
    Rows,
    Table,
    checked_ids,
    checked_query,
    checked_vectors,
)

# An index at one moment, as a value: searched by anyone, changed by nobody.


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """All rows, and lists over the first of them, or none; see `over`."""

    rows: Rows
    lists: Lists | None
    living: int  # rows in the lists that live,
    inside: Bits | None  # and which do, a bit each; None: all
    outside: Bits | None  # which of the rows after them live; None: all

    @classmethod
    def over(cls, rows: Rows, lists: Lists | None) -> "State":
        """Return a state of these rows, with lists over the first of them; without lists, rows are compared one by
        one.
        """
        covered = 0 if lists is None else lists.covered
        living = int(np.count_nonzero(rows.alive[:covered]))
        return cls(rows, lists, living, _bits(rows.alive[:covered]), _bits(rows.alive[covered:]))

    @property
    def covered(self) -> int:
        """The number of rows, from the first on, that are in lists."""
        return 0 if self.lists is None else self.lists.covered

    def search(self, queries: Floats, k: int) -> tuple[Floats, Ids]:
        """Return similarities and ids of the k nearest to each query, both (queries, k), best first; id -1 fills
        missing places.
        """
        found = self._found(queries, k) if len(queries) else []
        if not found:
            return nothing(len(queries), k)
        (similarities, positions), *more = found
        for others, at in more:
            similarities, positions = best(np.hstack([similarities, others]), np.hstack([positions, at]), k)
        return similarities, self._ids(positions)

    def _found(self, queries: Floats, k: int) -> list[tuple[Floats, Positions]]:
        """Return the results of the lists, and of the rows after them, where there are any."""
        rows, covered, found = self.rows, self.covered, []
        if self.lists is not None:
            found.append(self.lists.nearest(queries, k, rows.vectors, self.inside, self.living))
        if rows.count > covered:
            similarities, positions = nearest_of_all(queries, rows.vectors[covered : rows.count], self.outside, k)
            positions[positions != NOWHERE] += covered
            found.append((similarities, positions))
        return found

    def nearest(self, query: Floats, k: int) -> list[tuple[int, float]]:
        """Return ids and similarities of the k nearest to one query, (dimension,), best first; fewer where there are
        fewer.
        """
        rows, lists, covered = self.rows, self.lists, self.covered
        found: Found = []
        if lists is not None:
            found = lists.nearest_to_one(query, k, rows.vectors, self.inside, self.living)
        if rows.count > covered:
            behind = nearest_to_one(query, rows.vectors[covered : rows.count], self.outside, k)
            found += [(similarity, covered + position) for similarity, position in behind]
            found = sorted(found, key=_similarity, reverse=True)[:k]
        ids = rows.ids
        return [(int(ids[position]), similarity) for similarity, position in found]

    def search_among(self, queries: Floats, k: int, ids: Ids) -> tuple[Floats, Ids]:
        """Return the k nearest among the rows with these ids. Each is compared, since lists would miss some."""
        rows = self.rows
        wanted = rows.alive & np.isin(rows.ids[: rows.count], ids)
        if not len(queries) or not wanted.any():
            similarities, positions = nothing(len(queries), k)
        else:
            similarities, positions = nearest_of_all(queries, rows.vectors[: rows.count], _bits(wanted), k)
        return similarities, self._ids(positions)

    def _ids(self, positions: Positions) -> Ids:
        found = positions != NOWHERE
        if found.all():
            return self.rows.ids[positions]
        ids = np.full(positions.shape, NOWHERE, np.int64)
        ids[found] = self.rows.ids[positions[found]]
        return ids


def _similarity(found: tuple[float, int]) -> float:
    return found[0]


def _bits(alive: Flags) -> Bits | None:
    return None if alive.all() else np.packbits(alive, bitorder="little")


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits before that; the times are for 384 dimensions on one core."""

    exact: int = 4_000  # vectors that are compared one by one, without lists: about 0.3 ms a query
    outside: int = 1_000  # vectors that wait outside of the lists: about 0.07 ms a query
    dead: int = 32  # rows that may always be dead,
    dead_share: float = 0.25  # and this share of all rows at most
    growth: float = 4.0  # how many times the vectors that its centres were learned from lists may hold


DEFAULTS: Final = Limits()


def needs_rebuild(state: State, limits: Limits) -> bool:
    """Return True if it must be rebuilt: it has too many dead rows, too many to compare, or has outgrown its
    centres.
    """
    rows, lists = state.rows, state.lists
    if rows.dead > max(limits.dead, rows.count * limits.dead_share):
        return True
    return rows.living > (limits.exact if lists is None else limits.growth * lists.trained)


def needs_sorting(state: State, limits: Limits) -> bool:
    """Return True if too many rows wait outside of the lists."""
    return state.lists is not None and state.rows.count - state.covered > limits.outside


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
