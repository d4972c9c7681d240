"""The probability that the evidence supports a sentence.

Doubts are counted in what is usual for supported sentences: standard deviations from their mean, by kind of change. The
worst of them counts, and little of the others, so that an unforeseen kind of change is not lost among the others.
docs/explanation/judging.md has the data that these numbers were fitted on, and their accuracy; `make bench
B=groundedness` fits them again.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.judging.groundedness.doubts import DENIAL, KINDS, NAME, NUMBER, Doubts

Floats = NDArray[np.float64]

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
    """The probability that a sentence is supported, and the worst doubt, in words that quote nothing of the evidence:
    no moderator has seen them.

    `checked` says that the evidence lacks what the sentence says: a number, a unit, a name, or most of its words. Any
    other doubt is a hint.
    """

    probability: float
    reason: str
    checked: bool


def unusual(nearer: Floats) -> Floats:
    """Return how unusual each kind of change is for a supported sentence: standard deviations, by `COUNTS`.

    (..., kinds)
    """
    mean, deviation = np.array([USUAL[kind] for kind in KINDS]).T
    return counted(nearer, mean, deviation)


def counted(nearer: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Return the counts, standardized by this mean and standard deviation."""
    return np.asarray(np.array([COUNTS[kind] for kind in KINDS]) * (nearer - mean) / deviation)


def worst(doubts: Floats) -> Floats:
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
