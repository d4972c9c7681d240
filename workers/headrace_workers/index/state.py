"""An index at one moment, as a value: searched by anyone, changed by nobody."""

from dataclasses import dataclass

import numpy as np

from headrace_workers.index.best import NOWHERE, best, nearest_of_all, nothing
from headrace_workers.index.checked import Floats, Ids
from headrace_workers.index.lists import Bits, Lists
from headrace_workers.index.rows import Rows


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """All rows; lists over the first of them, or none; and which rows of the lists live (None: all)."""

    rows: Rows
    lists: Lists | None = None
    alive: Bits | None = None
    living: int = 0  # rows in the lists that live

    @property
    def covered(self) -> int:
        """How many rows, from the first on, are in lists; those behind are compared one by one."""
        return 0 if self.lists is None else self.lists.covered

    @classmethod
    def over(cls, rows: Rows, lists: Lists | None) -> "State":
        """These rows, with lists over the first of them."""
        if lists is None:
            return cls(rows)
        alive = rows.alive[: lists.covered]
        living = int(np.count_nonzero(alive))
        return cls(rows, lists, None if living == len(alive) else np.packbits(alive, bitorder="little"), living)

    def search(self, queries: Floats, k: int) -> tuple[Floats, Ids]:
        """Similarities and ids of the k nearest to each query, both (queries, k), best first; id -1: there is none."""
        rows, covered = self.rows, self.covered
        similarities, positions = nothing(len(queries), k)
        if rows.count > covered:
            similarities, positions = nearest_of_all(
                queries, rows.vectors[covered : rows.count], rows.alive[covered:], k
            )
            positions[positions != NOWHERE] += covered
        if self.lists is not None and len(queries):
            others, at = self.lists.nearest(queries, k, rows.vectors, self.alive, self.living)
            similarities, positions = best(np.hstack([others, similarities]), np.hstack([at, positions]), k)
        ids = np.where(positions == NOWHERE, NOWHERE, rows.ids[np.maximum(positions, 0)] if rows.count else NOWHERE)
        return similarities, ids
