"""Finds text that would give a model other instructions than its operator's: by patterns, which a person who knows them
can avoid.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from headrace_workers.core.ports import Detection
from headrace_workers.features.moderation.detector_versions import with_part
from headrace_workers.features.moderation.limits import MAX_DETECTIONS

CATEGORY: Final = "prompt_injection"
_SCORE: Final = 1.0


class Place(Protocol):
    """A span of a text that is suspicious."""

    @property
    def start(self) -> int:
        """Its first character."""

    @property
    def end(self) -> int:
        """The index after its last character."""


class InjectionDetector:
    """Finds prompt injection by the patterns that flag retrieved passages. Its score is always 1.

    For what users say; passages are flagged where they are retrieved. `find` is handed in.
    """

    name = "injection"
    reads_words = True
    categories = frozenset({CATEGORY})

    def __init__(self, find: Callable[[str], Iterable[Place]]) -> None:
        self._find = find
        self.version = with_part("patterns")

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return the suspicious spans in each text."""
        return [
            [Detection(CATEGORY, _SCORE, place.start, place.end) for place in self._find(text)][:MAX_DETECTIONS]
            for text in texts
        ]
