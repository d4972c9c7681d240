"""Whether a text holds what a model is to be tested with."""

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
        """Remember an item, and where it stands; False of one that is too short to be known again."""
        words = words_of(text)
        if len(words) < SHORT:
            return False
        length = min(len(words), SAME)
        self._lengths.add(length)
        for run in shingles(words, length):
            self._runs.setdefault(run, where)
        return True

    def leaked(self, text: str) -> str | None:
        """Where an item stands that the text has a run of words of."""
        words = words_of(text)
        for length in sorted(self._lengths, reverse=True):
            if len(words) >= length:
                found = next((self._runs[run] for run in shingles(words, length) if run in self._runs), None)
                if found is not None:
                    return found
        return None


def evaluation_sets(items: Iterable[tuple[str, str]], named: Iterable[str] = ()) -> EvaluationSets:
    """All of these texts, each with where it stands. ConfigurationError where one of the sets `named` has nothing that
    could be kept out: it is another file than was meant.
    """
    found, useful = EvaluationSets(), set[str]()
    for text, where in items:
        if found.add(text, where):
            useful.add(where)
    for name in named:
        if name not in useful:
            raise ConfigurationError(f"{name} has no item of {SHORT} words and more: there is nothing to keep out")
    return found
