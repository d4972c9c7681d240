"""Words that affirm something or deny it, and phrases that are read as one of them."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from headrace_workers.guards.stems import stem


@dataclass(frozen=True, slots=True)
class Side:
    """Where a word stands: on which line, on which side of its bar (1 left, -1 right), and whether the right side of it
    denies what the left one affirms; else both are opposites of which neither denies.
    """

    line: int
    sign: int
    denies: bool


def _lines(name: str) -> list[str]:
    text = files("headrace_workers.groundedness").joinpath("lists", f"{name}.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _sides() -> dict[str, frozenset[Side]]:
    found: dict[str, set[Side]] = {}
    for number, line in enumerate(_lines("polar_words")):
        for sign, words in zip((1, -1), line.removeprefix("=").split("|"), strict=True):
            for word in words.split():
                found.setdefault(stem(word), set()).add(Side(number, sign, not line.startswith("=")))
    return {word: frozenset(sides) for word, sides in found.items()}


def _phrases() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _lines("phrases"):
        phrases, _, word = line.partition("=")
        found |= {phrase.strip(): f" {word.strip()} " for phrase in phrases.split("|")}
    return found


SIDES: Final = _sides()  # by stem
PHRASES: Final = _phrases()  # nothing for one that looks like a denial and is none
