"""An index at one moment, as a value: searched by anyone, changed by nobody."""

from dataclasses import dataclass

import numpy as np

from headrace_workers.features.knowledge.index.faiss_library import Bits
from headrace_workers.features.knowledge.index.lists import Lists
from headrace_workers.features.knowledge.index.nearest import (
    NOWHERE,
    Found,
    best,
    nearest_of_all,
    nearest_to_one,
    nothing,
)
from headrace_workers.features.knowledge.index.vector_checks import Flags, Floats, Ids, Positions
from headrace_workers.features.knowledge.index.vector_rows import Rows


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """All rows, and lists over the first of them, or none; see `over`."""

    rows: Rows
    lists: Lists | None
    living: int  # rows in the lists that live,
    inside: Bits | None  # and which do, a bit each; None: all
    outside: Bits | None  # which of the rows behind them live; None: all

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
