"""Precision, recall, F1 and benign false positives of a detector, from labels that may be sampled unevenly.

Each is a weighted share of hits among the rows that count for it; F1 too, if found and wanted rows count twice:
F1 = 2·TP / (2·TP + FP + FN). So one interval does for all: Wilson's (1927) or Clopper and Pearson's (1934) at the
**effective** number of rows, p(1 − p) / variance, where the variance knows of weights and clusters (Korn and Graubard
1998, "Confidence intervals for proportions with small expected number of positive counts estimated from survey data").
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace_workers.stats.binomial import clopper_pearson_lower, clopper_pearson_upper
from headrace_workers.stats.estimates import (
    Clusters,
    Estimate,
    Floats,
    Ids,
    Interval,
    Undefined,
    normal_quantile,
    numbered,
    standard_error,
    t_quantile,
    weights_of,
)

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class DetectionRates:
    """The rates of a detector, each in [0, 1]. A rate without a row to count is Undefined."""

    precision: Estimate | Undefined
    recall: Estimate | Undefined
    f1: Estimate | Undefined
    benign_false_positives: Estimate | Undefined


def rates(
    flagged: Bools,
    harmful: Bools,
    probability: Floats | None = None,
    clusters: Ids | None = None,
    level: float = 0.95,
) -> DetectionRates:
    """Return the rates of a detector from what it flagged and what people say is harmful, one item a row.

    `probability` is that with which each row was chosen to be labelled; rows of a cluster may fail together. Raises
    ValueError for lengths that differ.
    """
    if len(flagged) != len(harmful):
        raise ValueError(f"{len(flagged)} verdicts and {len(harmful)} labels: give each item one of both")
    rows, found = len(flagged), flagged & harmful
    weights, groups = weights_of(probability, rows), numbered(clusters, rows)

    def of(counts: Bools, hits: Bools, weight: Floats, none: str) -> Estimate | Undefined:
        if not counts.any():
            return Undefined(none)
        return _share(hits[counts], weight[counts], groups.among(counts), level)

    return DetectionRates(
        precision=of(flagged, found, weights, "nothing was flagged"),
        recall=of(harmful, found, weights, "nothing is labelled harmful"),
        f1=of(flagged | harmful, found, np.where(found, 2.0, 1.0) * weights, "nothing is flagged or labelled harmful"),
        benign_false_positives=of(~harmful, flagged, weights, "nothing is labelled benign"),
    )


def share(
    hits: Bools,
    probability: Floats | None = None,
    clusters: Ids | None = None,
    level: float = 0.95,
) -> Estimate | Undefined:
    """Return the share of hits among all rows, such as of raw agreement. It is Undefined without rows."""
    rows = len(hits)
    if not rows:
        return Undefined("there are no rows")
    return _share(hits, weights_of(probability, rows), numbered(clusters, rows), level)


def wilson(p: float, n: float, level: float, method: str = "Wilson") -> Interval:
    """Return Wilson's score interval of a share `p` seen in `n` rows; both may be effective ones."""
    z2 = normal_quantile(level) ** 2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 / n * (p * (1 - p) + z2 / (4 * n))) / (1 + z2 / n)
    return Interval(max(0.0, middle - half), min(1.0, middle + half), level, method)


def clopper_pearson(p: float, n: float, level: float) -> Interval:
    """Return the exact two-sided interval of the same share."""
    alpha = (1 - level) / 2
    low, high = clopper_pearson_lower(p * n, n, alpha), clopper_pearson_upper(p * n, n, alpha)
    return Interval(low, high, level, "Clopper–Pearson")


def at_effective(n: float, rows: int) -> str:
    """Return the suffix of a method's name that states `n` effective rows."""
    return "" if n == rows else f" at {n:,.0f} effective rows of {rows:,}"


def effective_rows(hits: Floats, weights: Floats, clusters: Clusters, level: float) -> float:
    """Return the number of independent, evenly sampled rows that tell as much about the mean of `hits`, which lie in
    [0, 1].

    At most the rows that there are. Where all are alike, no variance is seen: then each cluster counts as one row, and
    uneven weights cost what Kish (1965) says.
    """
    rows, total = len(hits), float(weights.sum())
    if clusters.count == rows and weights.min() == weights.max():
        return float(rows)
    by_cluster = clusters.sums(weights)
    kish = total**2 / float(np.square(by_cluster).sum())
    p = float(weights @ hits) / total
    error = standard_error(weights * (hits - p) / total, clusters)
    if not 0.0 < error < math.inf:
        return min(kish, rows)
    small = normal_quantile(level) / t_quantile(level, clusters.count - 1)  # few clusters: the variance is a guess
    return min(rows, max(1.0, p * (1 - p) / error**2 * small**2))


def _share(hits: Bools, weights: Floats, clusters: Clusters, level: float) -> Estimate:
    values = hits.astype(np.float64)
    p, n = min(1.0, float(weights @ values / weights.sum())), effective_rows(values, weights, clusters, level)
    interval = wilson(p, n, level, f"Wilson{at_effective(n, len(hits))}")
    return Estimate(p, interval, len(hits), clusters.count)
