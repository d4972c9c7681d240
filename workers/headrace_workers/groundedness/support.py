"""How likely it is that the evidence supports a sentence.

Doubts are counted in what is usual for supported sentences: standard deviations from their mean, by kind of change. The
worst of them counts, so that a kind of change which nobody thought of is not lost among those that were not made. What
these numbers were fitted on, and how well they do, is in docs/judging.md; `make bench B=groundedness` fits them again.
"""

import math
from dataclasses import dataclass
from typing import Final

from headrace_workers.groundedness.doubts import DENIAL, NAME, NUMBER, Doubts

# Of supported sentences: mean and standard deviation of how much nearer a changed one is.
USUAL: Final = {NAME: (-0.1260, 0.1005), NUMBER: (-0.0922, 0.0408), DENIAL: (-0.0498, 0.0600)}
# How much one of these counts: wrong numbers stand out further than wrong names, and these further than denials.
COUNTS: Final = {NAME: 0.9, NUMBER: 0.7, DENIAL: 1.0}
CONSTANT: Final = 3.3
FAR: Final = -12.46
MISSING_NUMBER: Final = -2.34
MISSING_NAME: Final = -0.79
WORST_DOUBT: Final = -1.86
_NEAR: Final = 0.55  # cosine; reworded sentences are seldom farther from what they say
_MOST_MISSING: Final = 2
_CHANGED: Final = {
    NAME: "what is told fits another name better",
    NUMBER: "what is told fits another number better",
    DENIAL: "what is told fits the opposite better",
}


@dataclass(frozen=True, slots=True)
class Support:
    """P(supported) of a sentence, and what speaks most against it, in words that are none of the evidence's: nobody has
    moderated those.
    """

    probability: float
    reason: str


def worst_doubt(found: Doubts) -> tuple[str, float]:
    """The kind of change that is most unusual for a supported sentence, and how unusual: standard deviations, by
    `COUNTS`.
    """
    unusual = {
        kind: COUNTS[kind] * (found.nearer[kind] - mean) / deviation for kind, (mean, deviation) in USUAL.items()
    }
    kind = max(unusual, key=lambda each: unusual[each])
    return kind, unusual[kind]


def facts(found: Doubts) -> tuple[float, float, float]:
    """What counts beside the worst doubt: how much too far away it is, and how many numbers and names are nowhere."""
    numbers, names = min(len(found.numbers), _MOST_MISSING), min(len(found.names), _MOST_MISSING)
    return (max(0.0, _NEAR - found.nearness), float(numbers), float(names))


def support(found: Doubts) -> Support:
    """How likely the sentence is supported, of which these are the doubts."""
    weights = (FAR, MISSING_NUMBER, MISSING_NAME)
    log_odds = CONSTANT + sum(weight * value for weight, value in zip(weights, facts(found), strict=True))
    kind, unusual = worst_doubt(found)
    log_odds += WORST_DOUBT * unusual
    return Support(1.0 / (1.0 + math.exp(-log_odds)), _reason(found, kind, unusual))


def _reason(found: Doubts, kind: str, unusual: float) -> str:
    if found.numbers:
        return f"a number that is nowhere in it: {', '.join(sorted(found.numbers))}"
    if found.names:
        return f"a name that is nowhere in it: {', '.join(sorted(found.names))}"
    return _CHANGED[kind] if unusual > 1.0 else "nothing in it says the same"
