"""Words that affirm something or deny it, and phrases that are read as one of them."""

from dataclasses import dataclass
from typing import Final

from headrace_workers.features.cache.guards.words import lines_of, stem

_PACKAGE: Final = "headrace_workers.features.judging.groundedness"


@dataclass(frozen=True, slots=True)
class Side:
    """The place of a word: its line, the side of the bar (1 left, -1 right), and whether the right side denies what the
    left one affirms; else both are opposites of which neither denies.
    """

    line: int
    sign: int
    denies: bool


def _sides() -> dict[str, frozenset[Side]]:
    found: dict[str, set[Side]] = {}
    for number, line in enumerate(lines_of("polar_words", _PACKAGE)):
        for sign, words in zip((1, -1), line.removeprefix("=").split("|"), strict=True):
            for word in words.split():
                found.setdefault(stem(word), set()).add(Side(number, sign, not line.startswith("=")))
    return {word: frozenset(sides) for word, sides in found.items()}


def _phrases() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines_of("phrases", _PACKAGE):
        phrases, _, word = line.partition("=")
        found |= {phrase.strip(): f" {word.strip()} " for phrase in phrases.split("|")}
    return found


SIDES: Final = _sides()  # by stem
PHRASES: Final = _phrases()  # nothing for one that looks like a denial and is none
