"""Rows that vary together: labels of one item, items of one document or template. Only clusters are independent.

The error of a statistic comes from what each row adds to it (its influence), summed by cluster: a statistic's variance
is C/(C − 1) · Σ (sum of the cluster)², for influences that sum to zero (Liang and Zeger 1986, with CR1's factor).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
