"""Several rankings become one: a weighted mean of their scores. Pure.

Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval" (TOIS 2023): on a common scale, scores say
more than ranks do, since they tell how sure a leg is of its first. Reciprocal ranks, which take the first of a leg that
found nearly nothing for as good as the first of one that found all, were measured beside it:
`docs/explanation/retrieval.md`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Leg:
    """Results of a leg: ids with their scores, best first, on a scale that all legs have in common.

    `rest` is the score of ids that it does not name: its lowest score if the results were cut off, since the others
    score at most that; else the score of an id without a match.
    """

    found: Sequence[tuple[str, float]]
    rest: float = 0.0


@dataclass(frozen=True, slots=True)
class Fused:
    """One item. `ranks` says at which place each leg has it, from 1; a leg that does not have it is not named."""

    id: str
    score: float
    ranks: Mapping[str, int]


def fuse(legs: Mapping[str, Leg], weights: Mapping[str, float] | None = None) -> list[Fused]:
    """Return all items of the legs, best first; equals in order of id. The score is the mean of the legs' own.

    A leg without a weight has 1. Where a leg names an item twice, the better place counts. ValueError for a weight that
    is negative or no number, or is that of a leg that is not there, and where all weights are 0.
    """
    shares = _shares(legs, weights or {})
    ranks: dict[str, dict[str, int]] = {}
    scores: dict[str, dict[str, float]] = {}
    for name, leg in legs.items():
        for rank, (id_, score) in enumerate(leg.found, start=1):
            ranks.setdefault(id_, {}).setdefault(name, rank)
            scores.setdefault(id_, {}).setdefault(name, score)
    fused = [
        Fused(id_, sum(share * scores[id_].get(name, legs[name].rest) for name, share in shares.items()), places)
        for id_, places in ranks.items()
    ]
    return sorted(fused, key=lambda item: (-item.score, item.id))


def _shares(legs: Mapping[str, Leg], weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights, scaled so that their sum is 1."""
    if unknown := weights.keys() - legs.keys():
        raise ValueError(
            f"weights for legs that are not there: {', '.join(sorted(unknown))}; there are {', '.join(legs)}"
        )
    for leg, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"the weight of {leg} is {weight}: it is 0 or more")
    whole = {leg: weights.get(leg, 1.0) for leg in legs}
    total = sum(whole.values())
    if legs and not total:
        raise ValueError("all weights are 0: nothing decides between what was found")
    return {leg: weight / total for leg, weight in whole.items()}
