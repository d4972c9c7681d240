"""The evidence of an answer, read once: sentences and their parts, with vectors."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.judging.groundedness.sentences import (
    Read,
    clauses,
    hidden,
    joined,
    known_names,
    names_in,
    read,
    sentences,
    written_names,
)
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.text.words import lines_of, stem

Floats = NDArray[np.float32]

_MONTHS: Final = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)
_ONE: Final = re.compile(r"\b(?:one|once|single)\b", re.IGNORECASE)
_WORD: Final = re.compile(r"[^\W\d_]{2,60}")
_LONG_NAME: Final = re.compile(r"\b[A-Z][\w'-]{0,60}(?: (?:[a-z]{1,3} ){0,2}[A-Z][\w'-]{0,60}){1,8}")
_LEAST_FORM: Final = 4  # letters of a name that may have another ending
_ROOT: Final = 5  # letters that words of one root have in common
MOST_UNITS: Final = 600  # sentences and parts of them; a second of an encoder's time on one slow core


@cache
def _namesakes() -> dict[str, set[str]]:
    """Return for each adjective of a place the place, and for each place its adjectives."""
    found: dict[str, set[str]] = {}
    for line in lines_of("peoples", "headrace_workers.features.judging.groundedness"):
        people, _, place = line.partition(" : ")
        found.setdefault(people, set()).add(place)
        found.setdefault(place, set()).add(people)
    return found


@dataclass(frozen=True, eq=False, slots=True)
class Units:
    """Sentences and their parts: their texts, and which sentence each belongs to."""

    texts: tuple[str, ...]
    of: tuple[int, ...]
    whole: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lacking:
    """The numbers, units and names of a sentence that the evidence does not have, and the share of its other words."""

    numbers: frozenset[str]
    units: frozenset[str]
    names: frozenset[str]
    words: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """Texts that an answer may rest on. `vectors` (units, dimensions) are of length 1; `nameless` are the vectors of
    the units with their names hidden, and `written` the names of each unit as they stand there.
    """

    units: Units
    vectors: Floats
    nameless: Floats
    written: tuple[tuple[str, ...], ...]

    def within(self, sentences: Collection[str]) -> "Evidence":
        """Return the part of the evidence in these sentences."""
        units = self.units
        kept = [place for place, of in enumerate(units.of) if units.whole[of] in sentences]
        part = Units(tuple(units.texts[n] for n in kept), tuple(units.of[n] for n in kept), units.whole)
        return Evidence(part, self.vectors[kept], self.nameless[kept], tuple(self.written[n] for n in kept))

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """The reading of each unit."""
        return tuple(read(text) for text in self.units.texts)

    @cached_property
    def names(self) -> frozenset[str]:
        """The keys of all names."""
        return frozenset().union(*(item.names for item in self.reads))

    @cached_property
    def named(self) -> tuple[frozenset[str], ...]:
        """The keys of each unit's names."""
        return tuple(item.named(self.names) for item in self.reads)

    @cached_property
    def keys(self) -> frozenset[str]:
        """The keys of all that is said."""
        return frozenset().union(*(item.names | item.first | item.words for item in self.reads))

    @cached_property
    def standing(self) -> dict[str, frozenset[int]]:
        """Of each number, name and other word the numbers of the sentences that it stands in."""
        found: dict[str, set[int]] = {}
        for place in dict.fromkeys(self.units.of):
            for key in _keys(self.units.whole[place]):
                found.setdefault(key, set()).add(place)
        return {key: frozenset(places) for key, places in found.items()}

    def told_of(self, key: str) -> frozenset[int]:
        """Return the sentences that mention it, and those without a name after them: they continue about the same."""
        there, whole = self.standing[key], self.units.whole
        return there | {at + 1 for at in there if at + 1 < len(whole) and not read(whole[at + 1]).named(self.names)}

    @cached_property
    def numbers(self) -> frozenset[str]:
        """All numbers, a single thing and the months by their names among them. `12, 100` is read in both ways."""
        text = " ".join(self.units.texts)
        months = {str(number) for number, month in enumerate(_MONTHS, start=1) if month in text}
        one = {"1"} if _ONE.search(text) else set()
        others = (read(joined(sentence)).numbers for sentence in self.units.whole)
        return frozenset(months | one).union(*(item.numbers for item in self.reads), *others)

    @cached_property
    def times(self) -> frozenset[str]:
        """All lengths of time."""
        return frozenset(length for item in self.reads for length, _, _ in item.times)

    def lacking(self, sentence: str) -> Lacking:
        """Return what a sentence mentions and the evidence does not."""
        said = read(sentence)
        names = {name for name in said.named(self.names) - self.keys if not self._has_form(name)}
        names = {name for name in names if _folded(name) not in self._as_written}
        if names:  # by its initials: `the UN`, `the United Nations`
            long = self._initials | _all_initials([sentence])
            short = {name for name in names if any(name == text or (name in text and len(name) > 2) for text in long)}
            spelt = [name for name in written_names(sentence) if _initials(name) in self.keys]
            names -= short.union(*(read(f"of {name}").names for name in spelt))
        words = said.words - self.keys - said.units
        known = [row for row in said.times if row[0] in self.times]  # by another number, in another unit
        numbers = min((item.numbers - self.numbers for item in (said, read(joined(sentence)))), key=len)
        return Lacking(
            numbers.difference(number for _, number, _ in known),
            frozenset(unit for unit in said.units - self.keys if not self._has_form(unit)).difference(
                unit for _, _, unit in known
            ),
            frozenset(names),
            sum(not self._has_root(word) for word in words) / max(1, len(said.words)),
        )

    def _has_form(self, name: str) -> bool:
        """Return True if it stands there as the name of its place or people (`Spanish`), or with another ending
        (`German` and `Germany`).
        """
        if not self.keys.isdisjoint(_namesakes().get(name, ())):
            return True
        return len(name) >= _LEAST_FORM and any(
            key.startswith(name) or (len(key) >= _LEAST_FORM and name.startswith(key)) for key in self.keys
        )

    def _has_root(self, word: str) -> bool:
        return len(word) > _ROOT and word[:_ROOT] in self._roots

    @cached_property
    def _roots(self) -> frozenset[str]:
        return frozenset(key[:_ROOT] for key in self.keys if len(key) >= _ROOT)

    @cached_property
    def _as_written(self) -> frozenset[str]:
        """The stems of all words as they are written: a name such as `One in a Million` is read as numbers."""
        return frozenset(_folded(word) for text in self.units.whole for word in _WORD.findall(text))

    @cached_property
    def _initials(self) -> frozenset[str]:
        spaced = (name for names in self.written for name in names if " " in name)
        return _all_initials(self.units.whole).union(map(_initials, spaced))


def units(texts: Sequence[str], near: Sequence[str]) -> Units:
    """Return the sentences of the texts, each before its parts; of too many, those most like the text."""
    whole = tuple(dict.fromkeys(sentence.text for text in texts for sentence in sentences(text)))
    found = [(part, place) for place, sentence in enumerate(whole) for part in (sentence, *clauses(sentence))]
    if len(found) > MOST_UNITS:
        wanted = frozenset().union(*(_keys(text) for text in near))
        found.sort(key=lambda each: -len(_keys(whole[each[1]]) & wanted))
        found = sorted(found[:MOST_UNITS], key=lambda each: each[1])
    return Units(tuple(text for text, _ in found), tuple(place for _, place in found), whole)


def _folded(word: str) -> str:
    """Return the stem of a word without the marks on its letters: `Hygiène` is `hygiene`."""
    plain = unicodedata.normalize("NFKD", word.lower())
    return stem("".join(sign for sign in plain if not unicodedata.combining(sign)))


def _all_initials(texts: Iterable[str]) -> frozenset[str]:
    """Return the initials of names, across short words: `nasm` of `National Air and Space Museum`."""
    runs = (run.group() for text in texts for run in _LONG_NAME.finditer(text))
    return frozenset("".join(word[0] for word in run.split() if word[0].isupper()).lower() for run in runs)


def _initials(name: str) -> str:
    return "".join(word[0] for word in name.split()).lower()


def _keys(text: str) -> frozenset[str]:
    reading = read(text)
    return reading.names | reading.first | reading.words | reading.numbers


def embedded(found: Units, embedder: Embedder) -> Evidence:
    """Return the evidence of these units."""
    vectors, known = embedder.embed(found.texts), known_names(found.whole)
    written = tuple(tuple(names_in(text, known)) for text in found.texts)
    named = [place for place, names in enumerate(written) if names]
    nameless = vectors.copy()
    if named:
        nameless[named] = embedder.embed([hidden(found.texts[place], written[place]) for place in named])
    return Evidence(found, vectors, nameless, written)
