"""Doubts about a sentence, in numbers: its distance to the evidence, what the evidence lacks, and which changes of the
sentence would bring it nearer.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.judging.groundedness.evidence import Evidence, Floats, Lacking
from headrace_workers.features.judging.groundedness.polarity import agreeing
from headrace_workers.features.judging.groundedness.sentences import (
    Read,
    alike,
    hidden,
    names_in,
    opposite,
    other_kinds,
    other_names,
    other_numbers,
    read,
    with_last_words,
)
from headrace_workers.models.embedders.embedder import Embedder

_MOST: Final = 2  # of either kind that count
_MOST_KEYS: Final = 100  # of a sentence that are looked at


def apart(own: Iterable[str], sentence: Read, names: frozenset[str], evidence: Evidence) -> float:
    """Return the largest count, over these names or numbers, of the things that the sentence mentions with it and the
    evidence mentions elsewhere. The count covers other numbers and names, and words of only one sentence of the
    evidence: 1 for each, at most two, less a half for each that the evidence mentions with it. Return 0 if there is no
    sign.
    """
    standing = evidence.standing
    words = {key for key in sentence.words - evidence.names if len(standing.get(key, ())) == 1}
    found: list[float] = []
    for key in sorted(own)[:_MOST_KEYS]:
        # A sentence describes two names together, so neither shows where the other must stand.
        others = (words | sentence.numbers) if key in names else (words | sentence.numbers | names)
        signs = [standing[text] for text in sorted(others - {key})[:_MOST_KEYS] if text in standing]
        if key in standing and signs:
            where = evidence.told_of(key)
            beside = sum(not where.isdisjoint(sign) for sign in signs)
            found.append(min(_MOST, len(signs) - beside) - min(_MOST, beside) / 2)
    return max(found, default=0.0)


NAME, NUMBER, DENIAL = "name", "number", "denial"
KINDS: Final = (NAME, NUMBER, DENIAL)
_NEAREST: Final = 3  # units whose names and numbers are tried in the sentence
_MOST_CHANGES: Final = 24  # of one kind, of one sentence
_NO_CHANGE: Final = -0.08  # how much nearer, where nothing can be changed
_ELSEWHERE: Final = 0.2  # of how much farther the name or number stands than the nearest unit, which names another
_OF_OTHERS: Final = 0.4  # of how much nearer is what is told of others, names hidden
_NOTHING_TOLD: Final = -0.15  # where that cannot be said,
_NOWHERE: Final = 0.05  # or its own name stands nowhere
_APART: Final = 0.05  # for each thing that stands elsewhere than what it is told with
_OTHER_POLARITY: Final = 0.045  # where one of the nearest sentence and this denies, and the other does not,
_AGREES: Final = -0.1  # where the nearest parts affirm what it affirms; with the other sign where they do not,
_AGREES_BY_WORDS: Final = -0.2  # and by words that deny each other


@dataclass(frozen=True, slots=True)
class Doubts:
    """Doubts about one sentence: its cosine to the nearest unit of the evidence, the parts that the evidence lacks, and
    by kind how much nearer the worst change of it would be (a difference of cosines, and what words add to it).
    """

    nearness: float
    lacking: Lacking
    nearer: dict[str, float]


def doubts(claims: Sequence[str], evidence: Evidence, embedder: Embedder) -> list[Doubts]:
    """Return the doubts about each sentence; the evidence is not empty."""
    vectors = embedder.embed(claims)
    nearby = vectors @ evidence.vectors.T  # (sentences, units)
    changes = [_changes(claim, row, evidence) for claim, row in zip(claims, nearby, strict=True)]
    texts = [text for change in changes for found in change.values() for text in found]
    nearest = (embedder.embed(texts) @ evidence.vectors.T).max(axis=1) if texts else np.zeros(0, np.float32)
    of_others = _told_of_others(claims, evidence, embedder)
    taken, found = 0, []
    for claim, row, entry, others in zip(claims, nearby, changes, of_others, strict=True):
        nearer = {}
        for kind, made in entry.items():
            gains = nearest[taken : taken + len(made)] - row.max()
            taken += len(made)
            nearer[kind] = float(gains.max()) if made else _NO_CHANGE
        nearer[NAME] += _OF_OTHERS * others
        found.append(_with_words(claim, row, evidence, nearer))
    return found


def _told_of_others(claims: Sequence[str], evidence: Evidence, embedder: Embedder) -> list[float]:
    """Return for each sentence how much nearer the evidence about other names is than that about its own, with all
    names hidden: a difference of cosines, the largest over its names.
    """
    known = with_last_words(chain.from_iterable(evidence.written))
    own = [names_in(claim, known) for claim in claims]
    if not any(own):
        return [_NOTHING_TOLD] * len(claims)
    vectors = embedder.embed([hidden(claim, names) for claim, names in zip(claims, own, strict=True)])
    return [
        max((_of_others(name, row, evidence.written) for name in names), default=_NOTHING_TOLD)
        for names, row in zip(own, vectors @ evidence.nameless.T, strict=True)
    ]


def _of_others(name: str, row: Floats, there: Sequence[Sequence[str]]) -> float:
    its = [place for place, names in enumerate(there) if any(alike(name, text) for text in names)]
    others = [place for place, names in enumerate(there) if any(not alike(name, text) for text in names)]
    if not others:
        return _NOTHING_TOLD
    return float(row[others].max() - row[its].max()) if its else _NOWHERE


def _changes(claim: str, row: Floats, evidence: Evidence) -> dict[str, list[str]]:
    places = np.argsort(-row, kind="stable")[:_NEAREST]
    near = list(dict.fromkeys(evidence.units.whole[evidence.units.of[place]] for place in places))
    denied = opposite(claim)
    return {
        NAME: _some(chain(other_names(claim, near), other_kinds(claim, near))),
        NUMBER: _some(other_numbers(claim, near)),
        DENIAL: [denied] if denied is not None else [],
    }


def _some(changes: Iterable[str]) -> list[str]:
    return [change for change, _ in zip(dict.fromkeys(changes), range(_MOST_CHANGES), strict=False)]


def _with_words(claim: str, row: Floats, evidence: Evidence, nearer: dict[str, float]) -> Doubts:
    sentence, best = read(claim), int(row.argmax())
    there = read(evidence.units.whole[evidence.units.of[best]])
    names = sentence.named(evidence.names)
    if there.named(evidence.names) - names:
        nearer[NAME] += _ELSEWHERE * _farther(names, row, evidence.named)
    nearer[NAME] += _APART * max(0.0, apart(names, sentence, names, evidence))
    nearer[NUMBER] += _APART * apart(sentence.numbers, sentence, names, evidence)
    if there.numbers - sentence.numbers:
        nearer[NUMBER] += _ELSEWHERE * _farther(sentence.numbers, row, [item.numbers for item in evidence.reads])
    if sentence.denials % 2 != there.denials % 2:
        nearer[DENIAL] += _OTHER_POLARITY
    sign, by_words = agreeing(claim, row, evidence)
    nearer[DENIAL] += _AGREES * sign + _AGREES_BY_WORDS * by_words
    return Doubts(float(row[best]), evidence.lacking(claim), nearer)


def _farther(own: Iterable[str], row: Floats, there: Sequence[frozenset[str]]) -> float:
    """Return how much farther than the nearest unit the nearest unit with one of these is; the largest over all."""
    gaps = [0.0]
    for key in own:
        standing = [place for place, keys in enumerate(there) if key in keys]
        if standing:
            gaps.append(float(row.max() - row[standing].max()))
    return max(gaps)


Doubles = NDArray[np.float64]

# Of supported sentences: mean and standard deviation of how much nearer a changed one is.
USUAL: Final = {NAME: (-0.1199, 0.0951), NUMBER: (-0.0886, 0.0393), DENIAL: (-0.1046, 0.1186)}
# How much one of these counts: wrong numbers stand out further than wrong names, and these further than denials.
COUNTS: Final = {NAME: 1.0, NUMBER: 0.8, DENIAL: 1.1}
_SHARPNESS: Final = 2.0
CONSTANT: Final = 2.58  # of the sentences that were fitted on, 12 % of the supported ones are named
FAR: Final = -4.18
NEW_WORDS: Final = -0.33
VETO: Final = (
    -8.0
)  # log-odds: a number, a unit or a name that is nowhere, or another matter, leaves no doubt, however near the rest is
WORST_DOUBT: Final = -1.26
_SUREST: Final = 6.0  # log-odds that a veto outweighs
_NEAR: Final = 0.55  # cosine; reworded sentences are seldom farther from what they say
_OTHER_MATTER: Final = (0.45, 0.5)  # cosine below, and share of new words at least
_CHANGED: Final = {
    NAME: "another name fits the evidence better",
    NUMBER: "another number fits the evidence better",
    DENIAL: "the opposite fits the evidence better",
}


@dataclass(frozen=True, slots=True)
class Support:
    """The probability that a sentence is supported, and the worst doubt, in words that quote nothing of the evidence.
    `checked`: the evidence lacks what the sentence says; any other doubt is a hint.
    """

    probability: float
    reason: str
    checked: bool


def unusual(nearer: Doubles) -> Doubles:
    """Return how unusual each kind of change is for a supported sentence, (..., kinds): standard deviations, by
    `COUNTS`.
    """
    mean, deviation = np.array([USUAL[kind] for kind in KINDS]).T
    return counted(nearer, mean, deviation)


def counted(nearer: Doubles, mean: Doubles, deviation: Doubles) -> Doubles:
    """Return the counts, standardized by this mean and standard deviation."""
    return np.asarray(np.array([COUNTS[kind] for kind in KINDS]) * (nearer - mean) / deviation)


def worst(doubts: Doubles) -> Doubles:
    """Return the worst of the kinds, and a little more where another is as bad. (..., kinds) to (...)"""
    return np.asarray(np.logaddexp.reduce(_SHARPNESS * doubts, axis=-1) / _SHARPNESS)


def evidence_features(found: Doubts) -> tuple[float, float]:
    """Return the features beside the worst doubt: how much too far away it is, and the share of words that are new."""
    return (max(0.0, _NEAR - found.nearness), found.lacking.words)


def vetoes(found: Doubts) -> int:
    """Return how many kinds of things are nowhere in the evidence: numbers, units, names, the whole matter."""
    lacking = found.lacking
    return sum(map(bool, (lacking.numbers, lacking.units, lacking.names, _is_other_matter(found))))


def support(found: Doubts) -> Support:
    """Return the probability that a sentence with these doubts is supported."""
    weights = (FAR, NEW_WORDS)
    log_odds = CONSTANT + sum(weight * value for weight, value in zip(weights, evidence_features(found), strict=True))
    doubts = unusual(np.array([found.nearer[kind] for kind in KINDS]))
    log_odds += WORST_DOUBT * float(worst(doubts))
    if vetoes(found):
        log_odds = min(log_odds, _SUREST) + VETO * vetoes(found)
    at = int(doubts.argmax())
    return Support(
        1.0 / (1.0 + math.exp(-log_odds)), _reason(found, KINDS[at], float(doubts[at])), checked=vetoes(found) > 0
    )


def _is_other_matter(found: Doubts) -> bool:
    nearness, new = _OTHER_MATTER
    return found.nearness < nearness and found.lacking.words >= new


def _reason(found: Doubts, kind: str, doubt: float) -> str:
    lacking = found.lacking
    if lacking.numbers:
        return f"a number that is nowhere in it: {', '.join(sorted(lacking.numbers))}"
    if lacking.units:
        return f"a unit that is nowhere in it: {', '.join(sorted(lacking.units))}"
    if lacking.names:
        return f"a name that is nowhere in it: {', '.join(sorted(lacking.names))}"
    if _is_other_matter(found):
        return "nothing in it says the same"
    return _CHANGED[kind] if doubt > 1.0 else "nothing in it says the same"
