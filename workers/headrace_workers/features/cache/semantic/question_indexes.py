"""Questions whose answers may be served or are being made: an index in memory for each scope, and their texts."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace_workers.core.log import Action, log
from headrace_workers.models.vectors.vector_index import State, VectorIndex
from headrace_workers.models.vectors.vectors import VectorRefused, read_vector


class Entry(NamedTuple):
    """An entry as it is now; without a vector it may not be found any more. `making`: its answer is not there yet."""

    id: int
    scope: str | None
    question: str | None
    vector: bytes | None
    making: bool = False


class Neighbour(NamedTuple):
    """A known question near to another."""

    entry_id: int
    similarity: float
    question: str


class Question(NamedTuple):
    """A question, where it may be asked, and of one that is asked whose it is."""

    scope: str
    text: str
    tenant: str = ""


class Shelf:
    """Questions of one kind. One thread applies changes; any number look up meanwhile."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._scopes: dict[str, VectorIndex] = {}
        self._kept: dict[int, Question] = {}

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self._kept)

    def __contains__(self, entry_id: object) -> bool:
        """Return True if this entry's question is here."""
        return entry_id in self._kept

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

    def nearest(self, scope: str, vector: NDArray[np.float32], count: int) -> list[Neighbour]:
        """The nearest questions of a scope, best first, `count` at most."""
        index = self._scopes.get(scope)
        if index is None:
            return []
        kept = self._kept
        return [
            Neighbour(entry_id, min(1.0, similarity), question.text)
            for entry_id, similarity in index.nearest(vector, count)
            if (question := kept.get(entry_id)) is not None
        ]

    @property
    def due(self) -> bool:
        """Return True if `compact` would do anything."""
        return any(index.due for index in list(self._scopes.values()))

    def compact(self) -> None:
        """Rebuild what is due; it may take seconds, and look-ups and changes go on."""
        for index in list(self._scopes.values()):
            if index.due:
                index.compact()

    def held(self) -> tuple[dict[str, State], dict[int, Question]]:
        """Return each scope's present vectors, and the questions; entries that come or go meanwhile may be in only one
        of the two."""
        states = {scope: index.state for scope, index in list(self._scopes.items())}
        return states, self._kept.copy()

    def put_back(self, indices: dict[str, VectorIndex], kept: dict[int, Question]) -> None:
        """Hold these in the place of all. Vectors without a question are taken out."""
        for index in indices.values():
            rows = index.state.rows
            index.remove([entry_id for entry_id in rows.ids[: rows.count][rows.alive].tolist() if entry_id not in kept])
        self._kept, self._scopes = kept, {scope: index for scope, index in indices.items() if len(index)}

    def _apply(self, scope: str, coming: dict[int, tuple[NDArray[np.float32], str]], going: Sequence[int]) -> None:
        index = self._scopes.get(scope) or self._scopes.setdefault(scope, VectorIndex(self.dimensions))
        for entry_id, (_, text) in coming.items():
            self._kept[entry_id] = Question(scope, text)
        index.apply(list(coming), [vector for vector, _ in coming.values()], going)
        if not len(index):
            del self._scopes[scope]

    def _vector(self, entry_id: int, written: bytes) -> NDArray[np.float32] | None:
        try:
            return read_vector("entry", entry_id, written, self.dimensions)
        except VectorRefused as error:
            log("recall", logging.WARNING, Action.ENTRY_LEFT_OUT, f"an answer is not found by likeness: {error}")
            return None


class Known:
    """All that a worker knows of one ledger's questions. One thread applies changes; any number look up meanwhile."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.live = Shelf(dimensions)  # entries with an answer
        self.making = Shelf(dimensions)  # entries whose answer is being made
        self.followed = 0  # the number of the last change that is in it

    def __len__(self) -> int:
        """Return the number of questions that have an answer."""
        return len(self.live)

    def apply(self, entries: Iterable[Entry]) -> None:
        """Take in what entries are now."""
        entries = list(entries)
        # Add it before it is removed elsewhere: an entry must be found at every moment.
        self.live.apply(_gone(entry) if entry.making else entry for entry in entries)
        self.making.apply(entry if entry.making else _gone(entry) for entry in entries)

    def clear(self) -> None:
        """Forget all."""
        self.live, self.making, self.followed = Shelf(self.dimensions), Shelf(self.dimensions), 0

    def nearest(self, scope: str, vector: NDArray[np.float32], count: int) -> list[Neighbour]:
        """The nearest questions of a scope that have an answer, best first, `count` at most."""
        return self.live.nearest(scope, vector, count)

    @property
    def due(self) -> bool:
        """Return True if `compact` would do anything."""
        return self.live.due or self.making.due

    def compact(self) -> None:
        """Rebuild what is due; it may take seconds, and look-ups and changes go on."""
        self.live.compact()
        self.making.compact()


def _gone(entry: Entry) -> Entry:
    return Entry(entry.id, None, None, None)
