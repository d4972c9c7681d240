"""Polarity: whether two parts of sentences affirm the same, by denials and by words that contradict each other."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Final

import numpy as np

from headrace_workers.features.judging.groundedness.evidence import Evidence, Floats
from headrace_workers.features.judging.groundedness.sentences import clauses
from headrace_workers.text.words import EMPTY_OR_SMALL, lines_of, stem, words_of

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


_DENIALS: Final = words_of("not never no nobody none neither nor nothing nowhere hardly barely")
# These deny the words after them, and no more: `_SCOPE` words of content.
_PARTING: Final = words_of("without instead except unless unlike against")
_SCOPE: Final = 2
_PREFIXES: Final = ("un", "in", "im", "ir", "non")
_NO_PREFIX: Final = frozenset(
    stem(word)
    for word in words_of(
        "until under union unique university united uncle uniform understand universe undergo underground undo unit"
    )
)
_LEAST_ROOT: Final = 4
_NOT: Final = re.compile(r"n't\b|(?<=\bcan)not\b")
_NOT_UNTIL: Final = re.compile(r"\bnot\b(?=.*\b(?:until|before)\b)")  # then, after all
_PHRASE: Final = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(PHRASES, key=len, reverse=True))) + r")\b")
_WORD: Final = re.compile(r"[a-z]{1,40}")
_MOST_CHARACTERS: Final = 600  # of a part that are read,
_MOST_WORDS: Final = 60  # and words


@dataclass(frozen=True, slots=True)
class Part:
    """A reading of a part of a sentence: its words, by stem, with -1 where a word or a prefix denies that one alone;
    its words that affirm or deny something; and whether it denies as a whole.
    """

    words: Mapping[str, int]
    sides: Mapping[str, frozenset[Side]]
    denied: bool


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two parts: `sign` is 1 where both affirm or both deny, else -1. Where a word of one denies a word of the
    other, `by_words` is the sign by these and by what denies a part as a whole; else it is 0.
    """

    sign: int
    by_words: int


@lru_cache(maxsize=8_192)
def part(text: str) -> Part:
    """Return the reading of a part of a sentence: of its beginning, if it is long."""
    plain = _NOT.sub(" not", text[:_MOST_CHARACTERS].lower().replace("’", "'"))
    plain = _PHRASE.sub(lambda match: PHRASES[match.group()], _NOT_UNTIL.sub(" ", plain))
    words: dict[str, int] = {}
    sides: dict[str, frozenset[Side]] = {}
    denials, parted = 0, 0
    for match in islice(_WORD.finditer(plain), _MOST_WORDS):
        word = match.group()
        if word in _DENIALS:
            denials += 1
        elif word in _PARTING:
            parted = _SCOPE
        else:
            key, sign = _rooted(word)
            says = key not in EMPTY_OR_SMALL and word not in EMPTY_OR_SMALL
            if says or key in SIDES:
                words[key] = -sign if parted else sign
            if key in SIDES:
                sides[key] = SIDES[key]
            parted -= int(says and parted > 0)
    return Part(words, sides, denials % 2 == 1)


def agreement(claim: Part, there: Part) -> Agreement:
    """Return whether both affirm the same, or both deny it."""
    both = [key for key in claim.words if key in there.words]
    matches = list(_matches(claim, there))
    opposed = any(sign < 0 for *_, sign in matches) or any(claim.words[key] != there.words[key] for key in both)
    matched = {key for match in matches for key in match[:2]} | set(both)
    alone = sum(_denies(key, one) for one in (claim, there) for key in one.words if key not in matched)
    sign = (-1) ** (int(claim.denied) + int(there.denied) + int(opposed))
    return Agreement(sign * (-1) ** alone, sign if opposed else 0)


@lru_cache(maxsize=8_192)
def _rooted(word: str) -> tuple[str, int]:
    """Return the stem, and -1 where a prefix or an ending denies it; of a comparison the plain word."""
    key = stem(word)
    if key in SIDES:
        return key, 1
    for ending in ("er", "est"):
        root = word.removesuffix(ending)
        for plain in (root, root + "e", root[:-1], root[:-1] + "y"):
            if root != word and plain in SIDES and len(plain) > 2:
                return plain, 1
    for prefix in _PREFIXES:
        root = word.removeprefix(prefix)
        if root != word and len(root) >= _LEAST_ROOT and key not in _NO_PREFIX:
            rooted = stem(root)
            if prefix == "un" or rooted in SIDES:
                return rooted, -1
    root = word.removesuffix("less")
    return (stem(root), -1) if root != word and len(root) >= _LEAST_ROOT else (key, 1)


def _matches(claim: Part, there: Part) -> Iterator[tuple[str, str, int]]:
    """Yield words of which one affirms what the other affirms, with 1, or denies it, with -1; but none that both
    have.
    """
    theirs = [key for key in there.sides if key not in claim.words]
    for ours in claim.sides:
        for key in theirs if ours not in there.words else ():
            signs = {
                one.sign * other.sign
                for one in claim.sides[ours]
                for other in there.sides[key]
                if one.line == other.line
            }
            if len(signs) == 1:
                yield ours, key, signs.pop() * claim.words[ours] * there.words[key]


def _denies(key: str, read: Part) -> bool:
    """Return True if a word denies: a word of denial, or a word that denies unless it follows `without`."""
    if key not in read.sides:
        return read.words[key] < 0
    return {side.sign for side in read.sides[key] if side.denies} == {-read.words[key]}


_NEAREST: Final = 3  # sentences of the evidence whose parts are looked at
# How near a part is to one of the sentence, where a word that both have counts 1 if no other sentence has it:
_COSINE: Final = 4.0  # each of the cosines of the part and of its sentence,
_BEFORE: Final = 1.0  # and of a common word that stands in an earlier part, and goes on: `it opened in May and is shut`
_LEAST_PART_WORDS: Final = 4  # of a part of a sentence that denies and affirms nothing: `the tower keeper` says nothing


@dataclass(frozen=True, slots=True)
class _EvidencePart:
    """A part of the evidence, the words of its sentence before it, and the cosines of both."""

    read: Part
    before: frozenset[str]
    cosines: float


def agreeing(claim: str, row: Floats, evidence: Evidence) -> tuple[float, float]:
    """Return from -1 (the evidence says the opposite) to 1: the signs of the nearest parts of the evidence, and those
    by words that contradict each other. `row` has the cosines of the sentence to its units.
    """
    places = _parts_of_nearest(row, evidence)
    parts = [each for text in clauses(claim) or [claim] if (each := part(text)).words]
    if not places or not parts:
        return 0.0, 0.0
    sign, by_words = np.mean([_signs(item, places, evidence) for item in parts], axis=0)
    return float(sign), float(by_words)


def _parts_of_nearest(row: Floats, evidence: Evidence) -> list[_EvidencePart]:
    units = evidence.units
    found: list[_EvidencePart] = []
    first: dict[int, int] = {}
    parts: dict[int, list[int]] = {}
    for place, of in enumerate(units.of):
        if of in first:
            parts.setdefault(of, []).append(place)
        else:
            first[of] = place
    nearest = sorted(first, key=lambda of: -max(row[[first[of], *parts.get(of, ())]]))[:_NEAREST]
    for of in nearest:
        before: frozenset[str] = frozenset()
        places = []
        for place in parts.get(of) or [first[of]]:
            read, words = part(units.texts[place]), len(units.texts[place].split())
            if of not in parts or read.sides or words >= _LEAST_PART_WORDS:
                places.append(_EvidencePart(read, before, float(row[place] + row[first[of]])))
            before |= read.words.keys()
        found += places
    return found


def _signs(claim: Part, places: list[_EvidencePart], evidence: Evidence) -> tuple[float, float]:
    nearness = np.array([_nearness(claim, place, evidence) for place in places])
    weights = np.exp(nearness - nearness.max())
    agreements = [agreement(claim, place.read) for place in places]
    signs = np.array([(item.sign, item.by_words) for item in agreements])
    sign, by_words = np.average(signs, axis=0, weights=weights)
    return float(sign), float(by_words)


def _nearness(claim: Part, place: _EvidencePart, evidence: Evidence) -> float:
    common = sum(_weight(word, evidence) for word in claim.words if word in place.read.words)
    earlier = sum(
        _weight(word, evidence) for word in claim.words if word in place.before and word not in place.read.words
    )
    return _COSINE * place.cosines + common + _BEFORE * earlier


def _weight(word: str, evidence: Evidence) -> float:
    return 1.0 / max(1, len(evidence.standing.get(word, ())))
