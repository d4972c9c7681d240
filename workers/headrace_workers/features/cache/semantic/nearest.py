"""Search for a question that was answered before in other words: near by its vector, and the same to every guard."""

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.cache.guards.refusal import Refusal, against, refusal
from headrace_workers.features.cache.semantic.questions import Known, Neighbour, Shelf
from headrace_workers.features.cache.semantic.scope_limits import Limit
from headrace_workers.features.cache.store.answers import Change
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.models.embedders.embedding_cache import embed_for
from headrace_workers.text.profile import Profile, profile

if TYPE_CHECKING:
    from headrace_workers.features.cache.semantic.lookup import Lookup

_NEIGHBOURS: Final = 5
SEVERAL: Final = "several"
_NO_LIMIT: Final = Limit()
_A_GUARD: Final = "a guard"  # one that fails


class NearestQuestions:
    """Index that looks questions up among known ones. Thread-safe.

    Only one whose cosine is `least` or more is served, and no guard may refuse it: cosine alone tells "enable" from
    "disable" less well than from "turn on". The `limit` of a scope, which comes from its audits, may turn the scope
    off. A scope in shadow serves nothing, and explores each question that it would have served.
    """

    def __init__(
        self, embedder: Embedder, known: Known, least: float, limit: Callable[[str], Limit | None] = lambda _: None
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

    def nearest(self, lookups: Sequence["Lookup"]) -> None:
        """Note in each look-up its vector and the nearest question that asks the same, or why there is none; if it
        explores, also the one that a guard refused.
        """
        questions = [lookup.job.question for lookup in lookups]
        vectors = embed_for(self._embedder, [lookup.job.tenant for lookup in lookups], questions)
        for lookup, vector in zip(lookups, vectors, strict=True):
            lookup.vector = vector.astype(np.float32, copy=False).tobytes()
            self._note(lookup, vector)

    def lately(self, lookups: Sequence["Lookup"], changes: Sequence[Change]) -> list[list[Neighbour]]:
        """Return for each the entries that ask the same, oldest first: entries whose answers are being made, and
        entries in these changes.
        """
        came = Shelf(self._known.dimensions)
        came.apply(changes)
        near = [[*self._same(lookup, self._known.making), *self._same(lookup, came)] for lookup in lookups]
        by_id = [{neighbour.entry_id: neighbour for neighbour in neighbours} for neighbours in near]
        return [[neighbours[entry_id] for entry_id in sorted(neighbours)] for neighbours in by_id]

    def repeats(self, lookups: Sequence["Lookup"]) -> list[tuple["Lookup", float] | None]:
        """Return for each the first of these that asks the same, with the similarity; None if none comes before it."""
        first = Shelf(self._known.dimensions)
        repeats: list[tuple[Lookup, float] | None] = []
        for index, lookup in enumerate(lookups):
            same = self._same(lookup, first)
            repeats.append((lookups[same[0].entry_id], same[0].similarity) if same else None)
            if not same and lookup.vector is not None:
                first.apply([Change(index, lookup.scope, lookup.job.question, lookup.vector)])
        return repeats

    def _same(self, lookup: "Lookup", shelf: Shelf) -> list[Neighbour]:
        """Return the nearest entries that ask the same, nearest first; none without a vector, or if the scope is off
        or in shadow.
        """
        limit = self._limit(lookup.scope) or _NO_LIMIT
        if lookup.vector is None or limit.off is not None or limit.shadow is not None:
            return []
        near = shelf.nearest(lookup.scope, np.frombuffer(lookup.vector, np.float32), _NEIGHBOURS)
        return [
            neighbour
            for neighbour in near
            if neighbour.similarity >= self._least
            and refused(lookup.job.question, neighbour.question, lookup.scope) is None
        ]

    def _note(self, lookup: "Lookup", vector: NDArray[np.float32]) -> None:
        limit = self._limit(lookup.scope) or _NO_LIMIT
        if limit.off is not None:
            lookup.refused = limit.off
            return
        lookup.threshold = least = self._least
        neighbours = self._known.live.nearest(lookup.scope, vector, _NEIGHBOURS)
        if not neighbours:
            return
        first = neighbours[0]
        lookup.similarity = first.similarity
        if first.similarity < least:
            lookup.refused = f"similarity {first.similarity:.3f} is below {least:g}"
            return
        for neighbour in neighbours:
            if neighbour.similarity < least:
                break
            against = refused(lookup.job.question, neighbour.question, lookup.scope)
            if against is None:
                lookup.near, lookup.similarity = neighbour, neighbour.similarity
                lookup.kind, lookup.refused = ("hit", None) if limit.shadow is None else ("shadow", limit.shadow)
                return
            lookup.refused = lookup.refused or f"{against.guard}: {against.reason}"
        if lookup.explores:
            lookup.kind, lookup.near = "refused", first
            lookup.guard = _alone_against(lookup.scope, lookup.job.question, first.question)


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
    """Return why the answer to a known question must not be served for another; a guard that fails refuses."""
    try:
        return refusal(_read(scope, asked), _read(scope, known))
    except Exception as error:  # a guard that fails has not said that they are the same
        logging.getLogger("headrace.recall").exception("a guard failed, which counts as a refusal")
        return Refusal(_A_GUARD, f"failed with {type(error).__name__}")


def _alone_against(scope: str, asked: str, known: str) -> str:
    """Return the guard that alone refuses, so that without it the answer would be given; `several`, where others do,
    too.
    """
    try:
        names = against(_read(scope, asked), _read(scope, known))
    except Exception:  # it failed before, and was logged then
        return _A_GUARD
    return names[0] if len(names) == 1 else SEVERAL
