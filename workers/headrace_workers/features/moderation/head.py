"""Finds what a trained head was taught: a logistic regression over the vectors of sentences and longer stretches."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.ports import Detection, Embedder
from headrace_workers.features.moderation.detector_versions import with_part
from headrace_workers.features.moderation.head_file import Head
from headrace_workers.features.moderation.limits import MAX_DETECTIONS
from headrace_workers.features.moderation.segments import Part, segments

SCORE_FLOOR: Final = 0.5  # findings below it are reported once a text and category, for the score
_AT_ONCE: Final = 256  # parts


class HeadDetector:
    """Finds the head's categories. The score is its probability for a part of the text, which is the span."""

    reads_words = True

    def __init__(self, head: Head, embedder: Embedder, name: str = "head") -> None:
        """Use a head, which verdicts call `name`.

        Raise ConfigurationError where it was trained over vectors of another embedder.
        """
        if embedder.id != head.embedder or embedder.dimensions != head.weights.shape[1]:
            raise ConfigurationError(
                f"the moderation head was trained over {head.embedder}, and the embedder here is {embedder.id}: "
                "train it again (`headrace moderation train`), or set HEADRACE_EMBEDDER"
            )
        self._head, self._embedder = head, embedder
        self.name = name
        self.categories = frozenset(head.categories)
        self.version = with_part(head.version)

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return, for each category, the parts that the head is sure of, and in any case the one that it is surest
        of.
        """
        parts = [segments(text) for text in texts]
        scores = self._scores([text[slice(*part)] for text, own in zip(texts, parts, strict=True) for part in own])
        found, at = [], 0
        for own in parts:
            found.append(self._found(own, scores[at : at + len(own)]))
            at += len(own)
        return found

    def _scores(self, parts: Sequence[str]) -> NDArray[np.float64]:
        if not parts:
            return np.empty((0, len(self._head.categories)))
        groups = [parts[at : at + _AT_ONCE] for at in range(0, len(parts), _AT_ONCE)]
        return np.concatenate([self._head.scores(self._embedder.embed(group)) for group in groups])

    def _found(self, parts: Sequence[Part], scores: NDArray[np.float64]) -> list[Detection]:
        if not parts:
            return []
        found = []
        for category, column in zip(self._head.categories, scores.T, strict=True):
            sure = {int(column.argmax()), *np.flatnonzero(column >= SCORE_FLOOR).tolist()}
            found += [Detection(category, float(column[at]), *parts[at]) for at in sorted(sure)[:MAX_DETECTIONS]]
        return found
