"""The questions whose answers may be served, in memory: an index for each scope, and their texts."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace_workers.index.checked import VectorRefused, read_vector
from headrace_workers.index.vector_index import VectorIndex
from headrace_workers.log import Action, log


class Entry(NamedTuple):
    """An entry as it is now; without a vector it may not be found any more."""

    id: int
    scope: str | None
    question: str | None
    vector: bytes | None


class Neighbour(NamedTuple):
    """A known question near to another."""

    entry_id: int
    similarity: float
    question: str


class _Kept(NamedTuple):
    scope: str
    question: str


class Known:
    """All that a worker knows of one ledger's questions. One thread applies changes; any number look up meanwhile."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._scopes: dict[str, VectorIndex] = {}
        self._kept: dict[int, _Kept] = {}

    def __len__(self) -> int:
        """How many questions."""
        return len(self._kept)

    def apply(self, entries: Iterable[Entry]) -> None:
        """Take in what entries are now. One whose vector cannot be one of ours is left out, and the log says so."""
        coming: dict[str, dict[int, tuple[NDArray[np.float32], str]]] = defaultdict(dict)
        going: dict[str, list[int]] = defaultdict(list)
        for entry in {entry.id: entry for entry in entries}.values():
            if (before := self._kept.pop(entry.id, None)) is not None:
                going[before.scope].append(entry.id)
            if entry.scope is not None and entry.question is not None and entry.vector is not None:
                vector = self._vector(entry.id, entry.vector)
                if vector is not None:
                    coming[entry.scope][entry.id] = vector, entry.question
        for scope in going.keys() | coming.keys():
            self._apply(scope, coming.get(scope, {}), going.get(scope, []))

    def clear(self) -> None:
        """Forget all."""
        self._kept, self._scopes = {}, {}

    def nearest(self, scope: str, vector: NDArray[np.float32], count: int) -> list[Neighbour]:
        """The nearest questions of a scope, best first, `count` at most."""
        index = self._scopes.get(scope)
        if index is None:
            return []
        similarities, ids = index.search(vector[None], count)
        found = []
        for similarity, entry_id in zip(similarities[0].tolist(), ids[0].tolist(), strict=True):
            kept = self._kept.get(entry_id)
            if kept is not None:
                found.append(Neighbour(entry_id, min(1.0, similarity), kept.question))
        return found

    def compact(self) -> None:
        """Rebuild what is due; it may take seconds, and look-ups go on."""
        for index in list(self._scopes.values()):
            if index.due:
                index.compact()

    def _apply(self, scope: str, coming: dict[int, tuple[NDArray[np.float32], str]], going: Sequence[int]) -> None:
        index = self._scopes.get(scope) or self._scopes.setdefault(scope, VectorIndex(self._dimensions))
        for entry_id, (_, question) in coming.items():
            self._kept[entry_id] = _Kept(scope, question)
        index.apply(list(coming), [vector for vector, _ in coming.values()], going)
        if not len(index):
            del self._scopes[scope]

    def _vector(self, entry_id: int, written: bytes) -> NDArray[np.float32] | None:
        try:
            return read_vector("entry", entry_id, written, self._dimensions)
        except VectorRefused as error:
            log("recall", logging.WARNING, Action.ENTRY_LEFT_OUT, f"an answer is not found by likeness: {error}")
            return None
