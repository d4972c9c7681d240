"""The reading of a sentence: its numbers, names, other words, and the number of its denials."""

import re
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final

from headrace_workers.features.cache.guards.profile import is_content, profile
from headrace_workers.features.cache.guards.wording import DENIALS
from headrace_workers.features.cache.guards.words import EMPTY_OR_SMALL, words_of

_DENIALS: Final = DENIALS | words_of("unable fail refus exempt")
_NO_NUMBERS: Final = frozenset(("one", "once", "double", "pair"))  # `one of them`, `at once`
_COMPOUND: Final = re.compile(r"(?<![\w.,-])(\d{1,40}(?:[.,]\d{1,40}){0,20})-([a-z]{2,40})(?:-([a-z]{2,40}))?\b")
# `235, 000`, as some tokenizers leave it.
_SPACED: Final = re.compile(r"(?<![\w.,])\d{1,3}(?:, \d{3}){1,6}(?![\w.]*\d)")
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_MONTHS: Final = {"month": 1, "year": 12, "decade": 120, "century": 1_200}
_LONGEST: Final = 15  # characters of a number that counts time
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
    `units` are those of the words that say what a number counts or measures: `metre` in `a 1.8-metre fence`. `times`
    are the lengths of time, in seconds or months, with the number and the unit by which each is told.
    """

    numbers: frozenset[str]
    names: frozenset[str]
    first: frozenset[str]
    words: frozenset[str]
    denials: int
    units: frozenset[str]
    times: frozenset[tuple[str, str, str]]

    def named(self, known: Set[str]) -> frozenset[str]:
        """Return the names in the sentence, given which words are names."""
        return self.names | (self.first & known)


@lru_cache(maxsize=4_096)
def read(sentence: str) -> Read:
    """Return the reading of a sentence. Linear in its length."""
    numbers: set[str] = set()
    names, first, words, denials = set[str](), set[str](), set[str](), 0
    units, before = set[str](), None
    times = set[tuple[str, str, str]]()
    for token in profile(_COMPOUND.sub(_apart, _SPACED.sub(_certain, sentence))).tokens:
        if token.kind in {"number", "date"} and _FIGURES.fullmatch(token.key):
            if token.text.lower() not in _NO_NUMBERS:
                parts = token.key.split("-") if token.kind == "date" else [token.key]
                numbers.update(part.lstrip("0") or "0" for part in parts if part)
        elif token.kind == "word" and token.key in _DENIALS:
            denials += 1
        elif is_content(token) or token.kind == "date":
            (words if not token.name else first if token.starts else names).add(token.key)
            if token.kind == "unit" and before is not None and before.kind == "number":
                units.add(token.key)
                if (length := _length_of_time(before.key, token.key)) is not None:
                    times.add((length, before.key, token.key))
        before = token
    return Read(
        frozenset(numbers),
        frozenset(names),
        frozenset(first),
        frozenset(words),
        denials,
        frozenset(units),
        frozenset(times),
    )


def joined(sentence: str) -> str:
    """Return a sentence with `235,000` for `235, 000`, and `12,100` for `12, 100`, which may have been two numbers."""
    return _SPACED.sub(lambda match: match[0].replace(" ", ""), sentence)


def _certain(spaced: re.Match[str]) -> str:
    """Return `235,000` for `235, 000`: no number begins with a zero."""
    return spaced[0].replace(" ", "") if ", 0" in spaced[0] else spaced[0]


def _length_of_time(number: str, unit: str) -> str | None:
    """Return a length of time in seconds or months: `two weeks` is `fourteen days`. None for another unit."""
    for unit_of_all, sizes in (("s", _SECONDS), ("months", _MONTHS)):
        if unit in sizes and len(number) <= _LONGEST and _FIGURES.fullmatch(number):
            with suppress(ValueError):
                return f"{Fraction(number) * sizes[unit]} {unit_of_all}"
    return None


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
