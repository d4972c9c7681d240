"""Agreement of a sentence with the nearest parts of the evidence: do both affirm the same?"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from headrace_workers.features.judging.groundedness.evidence import Evidence, Floats
from headrace_workers.features.judging.groundedness.polarity import Part, agreement, part
from headrace_workers.features.judging.groundedness.sentences import clauses

_NEAREST: Final = 3  # sentences of the evidence whose parts are looked at
# How near a part is to one of the sentence, where a word that both have counts 1 if no other sentence has it:
_COSINE: Final = 4.0  # each of the cosines of the part and of its sentence,
_BEFORE: Final = 1.0  # and of a common word that stands in an earlier part, and goes on: `it opened in May and is shut`
_LEAST_WORDS: Final = 4  # of a part of a sentence that denies and affirms nothing: `the tower keeper` says nothing


@dataclass(frozen=True, slots=True)
class _Place:
    """A part of the evidence, the words of its sentence before it, and the cosines of both."""

    read: Part
    before: frozenset[str]
    cosines: float


def agreeing(claim: str, row: Floats, evidence: Evidence) -> tuple[float, float]:
    """Return from -1 (the evidence says the opposite) to 1: the signs of the nearest parts of the evidence, and those
    by words that contradict each other. `row` has the cosines of the sentence to its units.
    """
    places = _places(row, evidence)
    parts = [each for text in clauses(claim) or [claim] if (each := part(text)).words]
    if not places or not parts:
        return 0.0, 0.0
    sign, by_words = np.mean([_signs(each, places, evidence) for each in parts], axis=0)
    return float(sign), float(by_words)


def _places(row: Floats, evidence: Evidence) -> list[_Place]:
    units = evidence.units
    found: list[_Place] = []
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
            if of not in parts or read.sides or words >= _LEAST_WORDS:
                places.append(_Place(read, before, float(row[place] + row[first[of]])))
            before |= read.words.keys()
        found += places
    return found


def _signs(claim: Part, places: list[_Place], evidence: Evidence) -> tuple[float, float]:
    nearness = np.array([_nearness(claim, place, evidence) for place in places])
    weights = np.exp(nearness - nearness.max())
    found = [agreement(claim, place.read) for place in places]
    signs = np.array([(each.sign, each.by_words) for each in found])
    sign, by_words = np.average(signs, axis=0, weights=weights)
    return float(sign), float(by_words)


def _nearness(claim: Part, place: _Place, evidence: Evidence) -> float:
    common = sum(_weight(word, evidence) for word in claim.words if word in place.read.words)
    earlier = sum(
        _weight(word, evidence) for word in claim.words if word in place.before and word not in place.read.words
    )
    return _COSINE * place.cosines + common + _BEFORE * earlier


def _weight(word: str, evidence: Evidence) -> float:
    return 1.0 / max(1, len(evidence.standing.get(word, ())))
