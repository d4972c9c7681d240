"""The detector of a trained head, over the parts of a text."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import HazardName
from headrace_workers.features.moderation.detector import MAX_DETECTIONS, Detection, with_part
from headrace_workers.features.moderation.segments import Part, segments
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.models.heads import Head, load_head, sigmoid

TRAINED_BY: Final = "headrace moderation train"
SCORE_FLOOR: Final = 0.5  # findings below it are reported once a text and category, for the score
_CATEGORIES: Final = TypeAdapter(Annotated[set[HazardName], Field(min_length=1, max_length=64)])
_AT_ONCE: Final = 256  # parts


def load_categories(path: Path) -> Head:
    """Return the head in a file, whose names are categories. Raise ConfigurationError as `load_head` does."""
    head, _ = load_head(path, TRAINED_BY)
    try:
        distinct = _CATEGORIES.validate_python(head.names)
    except ValidationError:
        distinct = set()
    if not len(distinct) == len(head.names) == len(head.bias):
        raise ConfigurationError(f"the head {path} cannot be used: its classes need 1 to 64 categories, each once")
    return head


class HeadDetector:
    """Finds the head's categories. The score is its probability for a part of the text, which is the span."""

    reads_words = True

    def __init__(self, head: Head, embedder: Embedder, name: str = "head") -> None:
        """Use a head, which verdicts call `name`. Raise ConfigurationError where it belongs to another embedder."""
        head.check_embedder(embedder, "the moderation head", TRAINED_BY)
        self._head, self._embedder = head, embedder
        self.name = name
        self.categories = frozenset(head.names)
        self.version = with_part(head.version)

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return, for each category, the parts that the head is sure of, and in any case the one that it is surest
        of.
        """
        return found_in_parts(texts, self._head.names, self._scores)

    def _scores(self, parts: Sequence[str]) -> NDArray[np.float64]:
        return sigmoid(self._head.logits(self._embedder.embed(parts)).astype(np.float64))


def found_in_parts(
    texts: Sequence[str], categories: Sequence[str], score: Callable[[Sequence[str]], NDArray[np.float64]]
) -> list[list[Detection]]:
    """Return, for each category, the parts of each text that score 0.5 or more, and in any case the highest one."""
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
    detections = []
    for category, column in zip(categories, scores.T, strict=True):
        sure = {int(column.argmax()), *np.flatnonzero(column >= SCORE_FLOOR).tolist()}
        detections += [Detection(category, float(column[at]), *parts[at]) for at in sorted(sure)[:MAX_DETECTIONS]]
    return detections
