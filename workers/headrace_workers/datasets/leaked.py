"""Whether a text holds what a model is to be tested with."""

from collections.abc import Iterable
from typing import Final

from headrace_workers.datasets.shingles import SAME, shingles, words_of

_SHORT: Final = 5  # words; of a shorter item nothing is said, since it stands anywhere


class EvaluationSets:
    """Texts of evaluation sets, by their runs of 13 words; a shorter item by all of its words in a row."""

    def __init__(self) -> None:
        self._runs: dict[bytes, str] = {}
        self._lengths: set[int] = set()

    def add(self, text: str, where: str) -> None:
        """Remember an item, and where it stands."""
        words = words_of(text)
        if len(words) < _SHORT:
            return
        length = min(len(words), SAME)
        self._lengths.add(length)
        for run in shingles(words, length):
            self._runs.setdefault(run, where)

    def leaked(self, text: str) -> str | None:
        """Where an item stands that the text has a run of words of."""
        words = words_of(text)
        for length in sorted(self._lengths, reverse=True):
            if len(words) >= length:
                found = next((self._runs[run] for run in shingles(words, length) if run in self._runs), None)
                if found is not None:
                    return found
        return None


def evaluation_sets(items: Iterable[tuple[str, str]]) -> EvaluationSets:
    """All of these texts, each with where it stands."""
    found = EvaluationSets()
    for text, where in items:
        found.add(text, where)
    return found
