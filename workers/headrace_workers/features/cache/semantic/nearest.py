"""Look-up of a question that was answered before in other words: near by its vector, and the same to every guard."""

import logging
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.cache.guards.profile import Profile, profile
from headrace_workers.features.cache.guards.refusal import Refusal, against, refusal
from headrace_workers.features.cache.semantic.question_indexes import Entry, Known, Neighbour, Question, Shelf
from headrace_workers.features.cache.semantic.scope_limits import Limit
from headrace_workers.features.cache.store.answers import Change
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.models.embedders.embedding_cache import embed_for


class Nearly(NamedTuple):
    """A known question that a guard kept from being the same (`refused`), or that is the same in a scope that is in
    shadow (`shadow`).
    """

    kind: Literal["refused", "shadow"]
    found: Neighbour
    guard: str | None = None  # of what guards refused: the one that alone did, or `several`


class Near(NamedTuple):
    """The result of a semantic look-up: the question's vector, and the nearest entry that asks the same, or why none
    does.
    """

    vector: bytes | None = None
    found: Neighbour | None = None
    similarity: float | None = None  # to that, or to the nearest that asks for something else
    threshold: float | None = None  # from which on it may be given
    refused: str | None = None
    nearly: Nearly | None = None

    @property
    def entry_id(self) -> int | None:
        """The entry that asks the same."""
        return None if self.found is None else self.found.entry_id


class Vectored(NamedTuple):
    """A question with its vector."""

    question: Question
    vector: bytes


class Behind(NamedTuple):
    """An earlier question of the same group that asks the same."""

    position: int
    similarity: float


_NEIGHBOURS: Final = 5
SEVERAL: Final = "several"
_NO_LIMIT: Final = Limit()
_A_GUARD: Final = "a guard"  # one that fails


def _unlimited(_scope: str) -> Limit | None:
    return None


class NearestQuestions:
    """Index that looks questions up among known ones. Thread-safe.

    Only one whose cosine is `least` or more is served, and no guard may refuse it: cosine alone tells "enable" from
    "disable" less well than from "turn on". The `limit` of a scope, which comes from its audits, may turn the scope
    off. A scope in shadow serves nothing, and explores each question that it would have served.
    """

    def __init__(
        self,
        embedder: Embedder,
        known: Known,
        least: float,
        limit: Callable[[str], Limit | None] = _unlimited,
    ) -> None:
        self._embedder = embedder
        self._known = known
        self._least = least
        self._limit = limit

    @property
    def embedder(self) -> str:
        """The id of what makes the vectors."""
        return self._embedder.id

    @property
    def followed(self) -> int:
        """The number of the last change of the ledger that is known here."""
        return self._known.followed

    def nearest(self, questions: Sequence[Question], explored: Collection[int] = ()) -> list[Near]:
        """For each question, what it came to; of those at the places `explored`, also what it nearly was."""
        tenants, texts = [question.tenant for question in questions], [question.text for question in questions]
        vectors = embed_for(self._embedder, tenants, texts)
        return [
            self._near(question, vector, index in explored)
            for index, (question, vector) in enumerate(zip(questions, vectors, strict=True))
        ]

    def lately(self, questions: Sequence[Vectored], changes: Sequence[Change]) -> list[list[Neighbour]]:
        """Return for each question the entries that ask the same, oldest first: entries whose answers are being made,
        and entries in these changes.
        """
        came = Shelf(self._known.dimensions)
        came.apply(Entry(change.entry_id, change.scope, change.question, change.vector) for change in changes)
        return [self._lately(question, (self._known.making, came)) for question in questions]

    def behind(self, questions: Sequence[Vectored]) -> list[Behind | None]:
        """Return for each question an earlier one among these that asks the same; None if there is no earlier one."""
        first = Shelf(self._known.dimensions)
        repeats: list[Behind | None] = []
        for index, question in enumerate(questions):
            same = self._same(question, first)
            repeats.append(None if not same else Behind(same[0].entry_id, same[0].similarity))
            if not same:
                first.apply([Entry(index, question.question.scope, question.question.text, question.vector)])
        return repeats

    def _lately(self, asked: Vectored, shelves: Sequence[Shelf]) -> list[Neighbour]:
        neighbours = {neighbour.entry_id: neighbour for shelf in shelves for neighbour in self._same(asked, shelf)}
        return [neighbours[entry_id] for entry_id in sorted(neighbours)]

    def _same(self, asked: Vectored, shelf: Shelf) -> list[Neighbour]:
        """Return the nearest entries that ask the same, nearest first; none if the scope is off or in
        shadow.
        """
        limit = self._limit(asked.question.scope) or _NO_LIMIT
        if limit.off is not None or limit.shadow is not None:
            return []
        question, vector = asked.question, np.frombuffer(asked.vector, np.float32)
        near = shelf.nearest(question.scope, vector, _NEIGHBOURS)
        return [
            neighbour
            for neighbour in near
            if neighbour.similarity >= self._least
            and refused(question.text, neighbour.question, question.scope) is None
        ]

    def _near(self, question: Question, vector: NDArray[np.float32], explored: bool) -> Near:
        written = vector.astype(np.float32, copy=False).tobytes()
        limit = self._limit(question.scope) or _NO_LIMIT
        if limit.off is not None:
            return Near(written, refused=limit.off)
        least = self._least
        neighbours = self._known.nearest(question.scope, vector, _NEIGHBOURS)
        if not neighbours:
            return Near(written, threshold=least)
        first = neighbours[0]
        why = "" if first.similarity >= least else f"similarity {first.similarity:.3f} is below {least:g}"
        for neighbour in neighbours:
            if neighbour.similarity < least:
                break
            against = refused(question.text, neighbour.question, question.scope)
            if against is None and limit.shadow is not None:
                return Near(written, None, neighbour.similarity, least, limit.shadow, Nearly("shadow", neighbour))
            if against is None:
                return Near(written, neighbour, neighbour.similarity, least)
            why = why or f"{against.guard}: {against.reason}"
        nearly = None
        if explored and first.similarity >= least:
            nearly = Nearly("refused", first, _alone_against(question, first.question))
        return Near(written, None, first.similarity, least, why, nearly)


@lru_cache(maxsize=4_096)
def _read(scope: str, text: str) -> Profile:
    """Return the guards' reading of a question. It is read when it is first near an asked question, and separately in
    each scope, so that no look-up is faster because another tenant asked.
    """
    return profile(text)


def forget_read() -> None:
    """Read each question anew: for measurements."""
    _read.cache_clear()


def refused(asked: str, known: str, scope: str = "") -> Refusal | None:
    """Why the answer to a known question must not be served for another; a guard that fails refuses."""
    try:
        return refusal(_read(scope, asked), _read(scope, known))
    except Exception as error:  # a guard that fails has not said that they are the same
        logging.getLogger("headrace.recall").exception("a guard failed, which counts as a refusal")
        return Refusal(_A_GUARD, f"failed with {type(error).__name__}")


def _alone_against(asked: Question, known: str) -> str:
    """The guard that alone refuses, so that without it the answer would be given; `several`, where others do, too."""
    try:
        names = against(_read(asked.scope, asked.text), _read(asked.scope, known))
    except Exception:  # it failed before, and was logged then
        return _A_GUARD
    return names[0] if len(names) == 1 else SEVERAL
