"""The evidence of an answer, read once: sentences and their parts, with vectors."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.core.ports import Embedder
from headrace_workers.features.judging.groundedness.naming import hidden, known_names, names_in
from headrace_workers.features.judging.groundedness.sentence_reading import Read, read
from headrace_workers.features.judging.groundedness.sentences import clauses, sentences

Floats = NDArray[np.float32]

MOST_UNITS: Final = 600  # sentences and parts of them; a second of an encoder's time on one slow core


@dataclass(frozen=True, eq=False, slots=True)
class Units:
    """Sentences and their parts: their texts, and which sentence each belongs to."""

    texts: tuple[str, ...]
    of: tuple[int, ...]
    whole: tuple[str, ...]


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
        return frozenset().union(*(each.names for each in self.reads))

    @cached_property
    def named(self) -> tuple[frozenset[str], ...]:
        """The keys of each unit's names."""
        return tuple(each.named(self.names) for each in self.reads)

    @cached_property
    def keys(self) -> frozenset[str]:
        """The keys of all that is said."""
        return frozenset().union(*(each.names | each.first | each.words for each in self.reads))

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
        """All numbers."""
        return frozenset().union(*(each.numbers for each in self.reads))


def units(texts: Sequence[str], near: Sequence[str]) -> Units:
    """Return the sentences of the texts, each before its parts.

    Beyond the limit, units with most words in common with the text are kept.
    """
    whole = tuple(dict.fromkeys(sentence.text for text in texts for sentence in sentences(text)))
    found = [(part, place) for place, sentence in enumerate(whole) for part in (sentence, *clauses(sentence))]
    if len(found) > MOST_UNITS:
        wanted = frozenset().union(*(_keys(text) for text in near))
        found.sort(key=lambda each: -len(_keys(whole[each[1]]) & wanted))
        found = sorted(found[:MOST_UNITS], key=lambda each: each[1])
    return Units(tuple(text for text, _ in found), tuple(place for _, place in found), whole)


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
