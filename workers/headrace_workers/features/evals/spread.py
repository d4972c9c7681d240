"""The variance of scores between items, and of answers to one item between repeats. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Spread:
    """Variances: `between` of what items would score in the mean of endless repeats, `within` of repeats of one item.

    Where `within` is the larger, more repeats narrow the interval, too; else more items alone do.
    """

    between: float
    within: float


def spread(scores: NDArray[np.float64]) -> Spread | None:
    """Return the spread of scores (items, repeats), NaN where there is none.

    Return None where no item has two scores, or only one item has any.

    One-way analysis of variance with random effects, by moments; between items at least 0. Unequal numbers of repeats
    count by their harmonic mean (Searle, Casella & McCulloch 1992, section 3.6).
    """
    there = ~np.isnan(scores)
    counts = there.sum(axis=1)
    scores, there, counts = scores[counts > 0], there[counts > 0], counts[counts > 0]
    degrees = int((counts - 1).sum())
    if degrees == 0 or len(counts) < 2:
        return None
    means = np.nansum(scores, axis=1) / counts
    squares = np.where(there, (scores - means[:, None]) ** 2, 0.0).sum()
    within = float(squares / degrees)
    between = float(means.var(ddof=1)) - within * float((1.0 / counts).mean())
    return Spread(max(0.0, between), within)
