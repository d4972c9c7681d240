"""Whether a question was answered before in other words: near by its vector, and the same to every guard."""

import logging
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from headrace_workers.guards.port import Refusal
from headrace_workers.guards.profile import Profile, profile
from headrace_workers.guards.refusal import refusal
from headrace_workers.ports import Embedder
from headrace_workers.recall.cache import Near, Question
from headrace_workers.recall.known import Known

_NEIGHBOURS = 5


class NearestQuestions:
    """Looks questions up among those that are known. Thread-safe.

    Only one whose cosine is `least` or more is served, and no guard may refuse it: cosine alone tells "enable" from
    "disable" less well than from "turn on".
    """

    def __init__(self, embedder: Embedder, known: Known, least: float) -> None:
        self._embedder = embedder
        self._known = known
        self._least = least

    @property
    def embedder(self) -> str:
        """The id of what makes the vectors."""
        return self._embedder.id

    def nearest(self, questions: Sequence[Question]) -> list[Near]:
        """For each question, what it came to."""
        vectors = self._embedder.embed([question.text for question in questions])
        return [self._near(question, vector) for question, vector in zip(questions, vectors, strict=True)]

    def _near(self, question: Question, vector: NDArray[np.float32]) -> Near:
        written = vector.astype(np.float32, copy=False).tobytes()
        neighbours = self._known.nearest(question.scope, vector, _NEIGHBOURS)
        if not neighbours:
            return Near(written)
        first = neighbours[0]
        if first.similarity < self._least:
            why = f"similarity {first.similarity:.3f} is below {self._least:g}"
            return Near(written, similarity=first.similarity, refused=why)
        why = ""
        for neighbour in neighbours:
            if neighbour.similarity < self._least:
                break
            against = refused(question.text, neighbour.question)
            if against is None:
                return Near(written, neighbour.entry_id, neighbour.similarity)
            why = why or f"{against.guard}: {against.reason}"
        return Near(written, similarity=first.similarity, refused=why)


@lru_cache(maxsize=4_096)
def _read(text: str) -> Profile:
    """What guards read of a question; read when it is first near to one that is asked."""
    return profile(text)


def refused(asked: str, known: str) -> Refusal | None:
    """Why the answer to a known question must not be served for another; a guard that fails refuses."""
    try:
        return refusal(_read(asked), _read(known))
    except Exception as error:  # a guard that fails has not said that they are the same
        logging.getLogger("headrace.recall").exception("a guard failed, which counts as a refusal")
        return Refusal("a guard", f"failed with {type(error).__name__}")
