"""Values with their intervals, rows that vary together, and quantiles of the normal and Student's distribution."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.stats.binomial import incomplete_beta

# The result of a statistic: a value with its interval, or the reason why it is undefined.
#
# Never NaN, and never 0 for "unknown".


@dataclass(frozen=True, slots=True)
class Interval:
    """The range that holds the truth in a share `level` of cases, by `method` (in words)."""

    low: float
    high: float
    level: float
    method: str

    @property
    def width(self) -> float:
        """From one end to the other, in the value's own unit."""
        return self.high - self.low

    def holds(self, value: float) -> bool:
        """Return True if the value lies in the interval, ends included."""
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value from `n` rows in `clusters` groups that vary independently of each other (as many as rows, if alone)."""

    value: float
    interval: Interval
    n: int
    clusters: int


@dataclass(frozen=True, slots=True)
class Undefined:
    """There is no such value, and why: a sentence for people."""

    reason: str


# Rows that vary together: labels of one item, items of one document or template. Only clusters are independent.
#
# The error of a statistic comes from what each row adds to it (its influence), summed by cluster: a statistic's
# variance is C/(C − 1) · Σ (sum of the cluster)², for influences that sum to zero (Liang and Zeger 1986, with
# CR1's factor).

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Ids = NDArray[np.generic]  # numbers or strings


@dataclass(frozen=True, eq=False, slots=True)
class Clusters:
    """The number of each row's cluster, from 0, and how many there are."""

    of_row: Ints
    count: int

    def sums(self, values: Floats) -> Floats:
        """Return the sum of each cluster's values."""
        return np.asarray(np.bincount(self.of_row, weights=values, minlength=self.count), dtype=np.float64)

    def among(self, rows: NDArray[np.bool_]) -> "Clusters":
        """Return the clusters of these rows alone, numbered anew."""
        return numbered(self.of_row[rows], int(rows.sum()))


def numbered(ids: Ids | None, rows: int) -> Clusters:
    """Return clusters by their ids, one id a row.

    Without ids each row is a cluster. Raise ValueError for another length.
    """
    if ids is None:
        return Clusters(np.arange(rows), rows)
    if len(ids) != rows:
        raise ValueError(f"{len(ids)} ids of clusters for {rows} rows: give each row one")
    names, of_row = np.unique(ids, return_inverse=True)
    return Clusters(of_row.astype(np.int64), len(names))


def standard_error(influence: Floats, clusters: Clusters) -> float:
    """Return the standard error of a statistic from each row's influence. It is infinite for a single cluster."""
    if clusters.count < 2:
        return math.inf
    total = float(np.square(clusters.sums(influence)).sum())
    return math.sqrt(clusters.count / (clusters.count - 1) * total)


def weights_of(probability: Floats | None, rows: int) -> Floats:
    """Return the weight of each row: 1 / the probability with which it was taken (Horvitz and Thompson 1952).

    Raise ValueError unless it is above 0 and at most 1: a row with probability 0 cannot be in the sample.
    """
    if probability is None:
        return np.ones(rows)
    chance = np.asarray(probability, dtype=np.float64)
    if len(chance) != rows or not ((chance > 0) & (chance <= 1)).all():
        raise ValueError(
            f"give each of the {rows} rows the probability above 0, and up to 1, with which it was sampled"
        )
    return 1.0 / chance


_MANY: Final = 1_000  # degrees of freedom from which Hill's expansion has more digits than the incomplete beta function
_STEPS: Final = 1_000
_SETTLED: Final = 1e-14


def t_quantile(level: float, freedom: float) -> float:
    """Return the two-sided quantile of Student's t: 1 − `level` lies beyond it on both sides together.

    Newton's method. The tail is convex and the normal quantile lies below the result, so no step overshoots.
    """
    at = normal_quantile(level)
    for _ in range(_STEPS):
        step = (t_tail(at, freedom) - (1.0 - level)) / (2.0 * _density(at, freedom))
        at += step
        if step <= _SETTLED * at:
            break
    return at


def t_tail(statistic: float, freedom: float) -> float:
    """Return the two-sided p-value of Student's t."""
    square = statistic * statistic / freedom
    if freedom < _MANY:
        return incomplete_beta(1.0 / (1.0 + square), freedom / 2.0, 0.5)
    # Hill 1970, "Algorithm 395: Student's t-distribution": the deviate of the normal distribution with the same tail.
    width = freedom - 0.5
    y, b = width * math.log1p(square), 48.0 * width * width
    z = (((((-0.4 * y - 3.3) * y - 24.0) * y - 85.5) / (0.8 * y * y + 100.0 + b) + y + 3.0) / b + 1.0) * math.sqrt(y)
    return math.erfc(z / math.sqrt(2.0))


def normal_quantile(level: float) -> float:
    """Return the two-sided quantile of the normal distribution."""
    return NormalDist().inv_cdf((1.0 + level) / 2.0)


def _density(at: float, freedom: float) -> float:
    scale = math.lgamma((freedom + 1.0) / 2.0) - math.lgamma(freedom / 2.0) - 0.5 * math.log(freedom * math.pi)
    return math.exp(scale - (freedom + 1.0) / 2.0 * math.log1p(at * at / freedom))
