"""Buffers for FAISS's results of one query: look-ups are interactive, so nothing is allocated for each.

FAISS's own face for numpy allocates and checks at each call; with pointers that are kept it is called past that.
"""

import threading
from typing import Any

import numpy as np

from headrace_workers.features.knowledge.index.faiss_library import faiss


class Room:
    """The candidates of a query, and the best of them; `at_` are FAISS's pointers to these. It is one thread's."""

    def __init__(self, candidates: int, k: int) -> None:
        at: Any = faiss().swig_ptr
        self.sizes = candidates, k
        self.candidates, self.estimates = np.empty(candidates, np.int64), np.empty(candidates, np.float32)
        self.positions, self.similarities = np.empty(k, np.int64), np.empty(k, np.float32)
        self.at_candidates, self.at_estimates = at(self.candidates), at(self.estimates)
        self.at_positions, self.at_similarities = at(self.positions), at(self.similarities)

    @property
    def found(self) -> list[tuple[float, int]]:
        """Return similarity and position of the results, best first; ids that are nowhere are left out."""
        pairs = zip(self.similarities.tolist(), self.positions.tolist(), strict=True)
        return [pair for pair in pairs if pair[1] >= 0]


class _Kept(threading.local):
    room: Room | None = None


_KEPT = _Kept()


def room_for(candidates: int, k: int) -> Room:
    """Return this thread's buffers, with room for the candidates and the k best. The next search overwrites them."""
    room = _KEPT.room
    if room is None or room.sizes != (candidates, k):
        room = _KEPT.room = Room(candidates, k)
    return room
