"""Detection of evaluation sets in training texts."""

from collections.abc import Iterable
from typing import Final

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.datasets.shingles import SAME, shingles, words_of

SHORT: Final = 5  # words; of a shorter item nothing is said, since it stands anywhere


class EvaluationSets:
    """Texts of evaluation sets, by their runs of 13 words; a shorter item by all of its words in a row."""

    def __init__(self) -> None:
        self._runs: dict[bytes, str] = {}
        self._lengths: set[int] = set()

    def add(self, text: str, where: str) -> bool:
        """Remember an item and its place. Return False for an item that is too short to be recognized."""
        words = words_of(text)
        if len(words) < SHORT:
            return False
        length = min(len(words), SAME)
        self._lengths.add(length)
        for run in shingles(words, length):
            self._runs.setdefault(run, where)
        return True

    def leaked(self, text: str) -> str | None:
        """Return the place of an item that shares a run of words with the text, or None."""
        words = words_of(text)
        for length in sorted(self._lengths, reverse=True):
            if len(words) >= length:
                found = next((self._runs[run] for run in shingles(words, length) if run in self._runs), None)
                if found is not None:
                    return found
        return None


def evaluation_sets(items: Iterable[tuple[str, str]], named: Iterable[str] = ()) -> EvaluationSets:
    """Return the evaluation sets of these texts with their places.

    Raise ConfigurationError where one of the sets `named` has no text that is long enough.
    """
    found, useful = EvaluationSets(), set[str]()
    for text, where in items:
        if found.add(text, where):
            useful.add(where)
    for name in named:
        if name not in useful:
            raise ConfigurationError(f"{name} has no item of {SHORT} words and more: there is nothing to keep out")
    return found
