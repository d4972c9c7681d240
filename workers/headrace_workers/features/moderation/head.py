"""Finds what a trained head was taught: a logistic regression over the vectors of sentences and longer stretches."""

from collections.abc import Callable, Sequence
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
        return found_in_parts(texts, self._head.categories, self._scores)

    def _scores(self, parts: Sequence[str]) -> NDArray[np.float64]:
        return self._head.scores(self._embedder.embed(parts))


def found_in_parts(
    texts: Sequence[str], categories: Sequence[str], score: Callable[[Sequence[str]], NDArray[np.float64]]
) -> list[list[Detection]]:
    """Return, for each category, the parts of each text that score 0.5 or more, and in any case the highest one.

    `score` is given parts of texts, and returns the probability of each category, (parts, categories).
    """
    parts = [segments(text) for text in texts]
    cut = [text[slice(*part)] for text, own in zip(texts, parts, strict=True) for part in own]
    groups = [score(cut[at : at + _AT_ONCE]) for at in range(0, len(cut), _AT_ONCE)]
    scores = np.concatenate(groups) if groups else np.empty((0, len(categories)))
    found, at = [], 0
    for own in parts:
        found.append(_found(own, categories, scores[at : at + len(own)]))
        at += len(own)
    return found


def _found(parts: Sequence[Part], categories: Sequence[str], scores: NDArray[np.float64]) -> list[Detection]:
    if not parts:
        return []
    found = []
    for category, column in zip(categories, scores.T, strict=True):
        sure = {int(column.argmax()), *np.flatnonzero(column >= SCORE_FLOOR).tolist()}
        found += [Detection(category, float(column[at]), *parts[at]) for at in sorted(sure)[:MAX_DETECTIONS]]
    return found
