"""The reading of a sentence: its numbers, names, other words, and the number of its denials."""

import re
from collections.abc import Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from headrace_workers.features.cache.guards.negation import DENIALS
from headrace_workers.features.cache.guards.profile import is_content, profile
from headrace_workers.features.cache.guards.small_words import EMPTY_OR_SMALL
from headrace_workers.features.cache.guards.word_lists import words_of

_DENIALS: Final = DENIALS | words_of("unable fail refus exempt")
_NO_NUMBERS: Final = frozenset(("one", "once", "double", "pair"))  # `one of them`, `at once`
_COMPOUND: Final = re.compile(r"(?<![\w.,-])(\d{1,40}(?:[.,]\d{1,40}){0,20})-([a-z]{2,40})(?:-([a-z]{2,40}))?\b")
_FIGURES: Final = re.compile(r"[\d.-]{1,40}")
_MONTHS_AND_DAYS: Final = words_of(
    """January February March April May June July August September October November December
    Monday Tuesday Wednesday Thursday Friday Saturday Sunday"""
)
_RUN: Final = re.compile(r"\b[A-Z][\w'-]{1,60}(?: [A-Z][\w'-]{1,60}){0,6}|(?<=[a-z] )[A-Z]\b")


@dataclass(frozen=True, slots=True)
class Read:
    """A sentence's numbers (of a date each of its parts), the keys of its names and of the other words that say what it
    is about, and the number of its denials. `first` are names by their capital alone, with which a sentence begins.
    `units` are those of the words that say what a number counts or measures: `metre` in `a 1.8-metre fence`.
    """

    numbers: frozenset[str]
    names: frozenset[str]
    first: frozenset[str]
    words: frozenset[str]
    denials: int
    units: frozenset[str]

    def named(self, known: Set[str]) -> frozenset[str]:
        """Return the names in the sentence, given which words are names."""
        return self.names | (self.first & known)


@lru_cache(maxsize=4_096)
def read(sentence: str) -> Read:
    """Return the reading of a sentence. Linear in its length."""
    numbers: set[str] = set()
    names, first, words, denials = set[str](), set[str](), set[str](), 0
    units, before = set[str](), ""
    for token in profile(_COMPOUND.sub(_apart, sentence)).tokens:
        if token.kind in {"number", "date"} and _FIGURES.fullmatch(token.key):
            if token.text.lower() not in _NO_NUMBERS:
                parts = token.key.split("-") if token.kind == "date" else [token.key]
                numbers.update(part.lstrip("0") or "0" for part in parts if part)
        elif token.kind == "word" and token.key in _DENIALS:
            denials += 1
        elif is_content(token) or token.kind == "date":
            (words if not token.name else first if token.starts else names).add(token.key)
            if token.kind == "unit" and before == "number":
                units.add(token.key)
        before = token.kind
    return Read(frozenset(numbers), frozenset(names), frozenset(first), frozenset(words), denials, frozenset(units))


def _apart(compound: re.Match[str]) -> str:
    """Return `9 year old` for `9-year-old`."""
    return " ".join(part for part in compound.groups() if part)


def written_names(sentence: str) -> list[str]:
    """Return names as they are written: words with capitals that follow each other, and a letter as in `class B`.

    A sentence's first word alone is no name, since it always has a capital; nor is a month or a day.
    """
    found = []
    for match in _RUN.finditer(sentence):
        name = match.group()
        first, _, rest = name.partition(" ")
        if rest and first.lower() in EMPTY_OR_SMALL:
            name = rest
        elif not rest and not sentence[: match.start()].strip():
            continue
        if name not in _MONTHS_AND_DAYS:
            found.append(name)
    return found
