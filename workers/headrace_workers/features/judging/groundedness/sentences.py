"""Sentences: their parts, their reading (numbers, names, other words), and sentences with one thing changed."""

import re
from collections.abc import Collection, Iterable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import islice, pairwise
from typing import Final

from headrace_workers.text.profile import is_content, profile
from headrace_workers.text.words import DENIALS, EMPTY_OR_SMALL, stem, words_of
from headrace_workers.text.words import opposite as opposes

_END: Final = re.compile(r"(?<=[.!?])(?P<closing>[\"')\]”’]{0,3})\s+(?=[\"'(\[“‘*-]{0,3}[^\W_a-z])|\n+")
_BEGINS: Final = re.compile(r"\s*(?:[-*•>#|]{1,6}\s+|\d{1,3}[.)]\s+)?")
_CITATION: Final = re.compile(r"\s?[\[【]\d{1,6}(?:\s?[,;–-]\s?\d{1,6}){0,50}[\]】]")
_CLAUSE: Final = re.compile(
    r"(?:,(?! 0\d\d\b)|[;:])\s+(?:and |but |while |which |who |although |whereas )?"
    r"|\s+(?=(?:while|but|although|whereas|until|because|since|and|where|whose)\b)"
)
_LEAST_WORDS: Final = 3  # of a part of a sentence that is looked at by itself


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a text, from `start` to `stop`; `text` is without a bullet before it and citations in it."""

    text: str
    start: int
    stop: int


def sentences(text: str) -> Iterator[Sentence]:
    """Yield the sentences of a text, in order. The end of a line ends a sentence, too."""
    at = 0
    for start, stop in [*_ends(text), (len(text), len(text))]:
        begins = _BEGINS.match(text, at)
        begin = begins.end() if begins is not None else at
        raw = text[begin:start]
        plain = _CITATION.sub("", raw).strip()
        if plain:
            begin += len(raw) - len(raw.lstrip())
            yield Sentence(plain, begin, begin + len(raw.strip()))
        at = stop


def _ends(text: str) -> Iterator[tuple[int, int]]:
    """Yield the end of each sentence with its closing quotation mark, and the place where the next may begin."""
    for match in _END.finditer(text):
        yield match.start() + len(match["closing"] or ""), match.end()


def clauses(sentence: str) -> list[str]:
    """Return the parts of a sentence that make statements of their own; none where it has one alone."""
    parts = [part for part in _CLAUSE.split(sentence) if len(part.split()) >= _LEAST_WORDS]
    return parts if len(parts) > 1 else []


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
    for token in profile(_COMPOUND.sub(_split_compound, _SPACED.sub(_certain, sentence))).tokens:
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


def _split_compound(compound: re.Match[str]) -> str:
    """Return `9 year old` for `9-year-old`."""
    return " ".join(part for part in compound.groups() if part)


def written_names(sentence: str) -> list[str]:
    """Return names: words with capitals that follow each other, but for first words, months and days; and `class B`."""
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


_NOBODY: Final = "X"


def names_in(sentence: str, known: Collection[str]) -> list[str]:
    """Return the names in a sentence. A name at its beginning may be one word, if it is a known one."""
    found = written_names(sentence)
    first = sentence.split(maxsplit=1)[0].rstrip(",.'") if sentence else ""
    return [first, *found] if first in known and first not in found else found


def known_names(sentences: Iterable[str]) -> frozenset[str]:
    """Return the names in these sentences, and their last words, by which people are called later."""
    return with_last_words(name for sentence in sentences for name in written_names(sentence))


def with_last_words(names: Iterable[str]) -> frozenset[str]:
    """Return these names, and the last word of each."""
    return frozenset(word for name in names for word in (name, name.split()[-1]))


def hidden(sentence: str, names: Iterable[str]) -> str:
    """Return the sentence with each of these names replaced by the same word."""
    for name in sorted(names, key=len, reverse=True):
        sentence = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", _NOBODY, sentence)
    return sentence


def alike(one: str, other: str) -> bool:
    """Return True if two names have a word in common: `Voss` is `Hanne Voss`."""
    return not set(one.split()).isdisjoint(other.split())


_NUMBER: Final = re.compile(r"(?<![\w.,])\d{1,40}(?:[.,]\d{1,40}){0,20}(?![\w]|[.,]\d)")
_AUXILIARY: Final = re.compile(
    r"\b(is|are|was|were|has|have|had|can|may|must|could|will|would|should|does|do|did)\b(?! not)", re.IGNORECASE
)
_DENIAL: Final = re.compile(r"\b(?:not|never|no longer)\s|n't\b", re.IGNORECASE)
# Of `nobody` and `nothing` the opposite is another sentence.
_OPPOSITES: Final = {"no": "a", "without": "with", "unable": "able", "cannot": "can"}
_DENYING: Final = re.compile(rf"\b({'|'.join(_OPPOSITES)})\b", re.IGNORECASE)
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z'-]{1,40}")
_MOST_WORDS: Final = 200  # of a sentence that are read for kinds
_MOST_NAMES: Final = 24
_PLACE_PREPOSITIONS: Final = frozenset(("in", "at", "to", "from", "near", "into", "between"))
_ANY: Final = frozenset(("of", "and", "or"))


def other_numbers(sentence: str, evidence: Iterable[str]) -> Iterator[str]:
    """Yield the sentence with each of its numbers, in figures, replaced by each number of these sentences."""
    own = set(_NUMBER.findall(sentence))
    rivals = dict.fromkeys(number for text in evidence for number in _NUMBER.findall(text) if number not in own)
    for match in _NUMBER.finditer(sentence):
        for rival in rivals:
            if abs(len(rival) - len(match.group())) <= 1:  # another size is seldom what was mistaken
                yield sentence[: match.start()] + rival + sentence[match.end() :]


def other_names(sentence: str, evidence: Iterable[str]) -> Iterator[str]:
    """Yield the sentence with each of its names replaced by each name of these sentences that is used alike: as a
    place, or as the one who acts.
    """
    texts = list(evidence)
    uses: dict[str, set[str]] = {}
    for text in texts:
        for name in written_names(text):
            uses.setdefault(name, set()).update(_uses(name, text))
    for name in names_in(sentence, uses)[:_MOST_NAMES]:
        own = uses.get(name) or _uses(name, sentence)
        beside = set(sentence.replace(name, "", 1).split())
        for rival, used in uses.items():
            there = rival in name or name in rival or not beside.isdisjoint(rival.split())
            if not there and own & used:
                yield sentence.replace(name, rival, 1)


def other_kinds(sentence: str, evidence: Iterable[str]) -> Iterator[str]:
    """Yield the sentence with each word that names a kind of thing replaced by another kind: `glass` of `glass fibre`
    where the evidence has another.
    """
    kinds: dict[str, set[str]] = {}
    words: set[str] = set()
    for text in evidence:
        found = [match.group().lower() for match in islice(_WORD.finditer(text), _MOST_WORDS)]
        words.update(found)
        for word, thing in pairwise(found):
            if word not in EMPTY_OR_SMALL and thing not in EMPTY_OR_SMALL:
                kinds.setdefault(stem(thing), set()).add(word)
    lowered = sentence.lower()
    for match in islice(_WORD.finditer(sentence), _MOST_WORDS):
        word = match.group().lower()
        rivals = {rival for kind in kinds.values() if word in kind for rival in kind}
        rivals |= {rival for rival in words if opposes(stem(word), stem(rival))}
        for rival in sorted(rivals):
            if rival not in lowered:
                yield sentence[: match.start()] + rival + sentence[match.end() :]


def opposite(sentence: str) -> str | None:
    """Return the sentence without its first denial, or with one; None where neither can be built."""
    if _DENIAL.search(sentence):
        return _DENIAL.sub("", sentence, count=1)
    if _DENYING.search(sentence):
        return _DENYING.sub(lambda match: _OPPOSITES[match.group().lower()], sentence, count=1)
    if _AUXILIARY.search(sentence):
        return _AUXILIARY.sub(r"\1 not", sentence, count=1)
    return None


def _uses(name: str, text: str) -> set[str]:
    if len(name) == 1:
        return {"letter"}
    before = text[: text.index(name)].split()
    last = before[-1].lower() if before else ""
    if last in _ANY:
        return {"place", "actor"}
    return {"place"} if last in _PLACE_PREPOSITIONS else {"actor"}
