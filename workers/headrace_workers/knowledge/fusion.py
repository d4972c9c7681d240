"""Several rankings become one: reciprocal rank fusion. Pure.

Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods"
(SIGIR 2009); its k = 60. Scores of different legs have no common scale, and ranks have.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

K: Final = 60


@dataclass(frozen=True, slots=True)
class Fused:
    """One item. `ranks` says at which place each leg has it, from 1; a leg that does not have it is not named."""

    id: str
    score: float
    ranks: Mapping[str, int]


def fuse(legs: Mapping[str, Sequence[str]], weights: Mapping[str, float] | None = None, k: int = K) -> list[Fused]:
    """All items of the legs (ids, best first), best first; those alike in order of id.

    A leg without a weight has 1. Where a leg names an item twice, the better place counts. ValueError for a weight that
    is negative or no number, or is that of a leg that is not there.
    """
    weights = weights or {}
    if unknown := weights.keys() - legs.keys():
        raise ValueError(
            f"weights for legs that are not there: {', '.join(sorted(unknown))}; there are {', '.join(legs)}"
        )
    for leg, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"the weight of {leg} is {weight}: it is 0 or more")
    ranks: dict[str, dict[str, int]] = {}
    for leg, ids in legs.items():
        for rank, id_ in enumerate(ids, start=1):
            ranks.setdefault(id_, {}).setdefault(leg, rank)
    fused = [
        Fused(id_, sum(weights.get(leg, 1.0) / (k + rank) for leg, rank in places.items()), places)
        for id_, places in ranks.items()
    ]
    return sorted(fused, key=lambda item: (-item.score, item.id))
