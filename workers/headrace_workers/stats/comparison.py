"""A comparison of two variants on the same items.

Differences are taken item by item: what makes an item hard for both drops out (Miller 2024, "Adding error bars to
evals", arXiv 2411.00640). The method depends on what the data bear:

| when | method |
|---|---|
| under 10 clusters with a difference, and some without | Dirichlet: a bootstrap takes the unseen for impossible |
| clusters of several items, 5 to 39 of them | wild cluster bootstrap |
| fewer than 5 clusters of several items | none: the whole span |
| under 100 items | Dirichlet |
| else | t with C − 1 degrees of freedom, variance with C/(C − 1) |

An item without clusters is a cluster by itself.

An interval is for data that are looked at once, when all items are in.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from headrace_workers.stats.detection_rates import at_effective, effective_rows, wilson
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
    t_tail,
)

# Intervals of a mean where the normal approximation fails: few items, few that differ, few clusters.
#
# Draws come from a fixed seed: the same data say the same.

_DRAWS: Final = 4_999
_WILD_DRAWS: Final = 999
_HALVINGS: Final = 20
_WEBB: Final = np.sqrt([0.5, 1.0, 1.5])


def dirichlet(sums: Floats, sizes: Floats, span: float, level: float) -> tuple[Interval, float]:
    """Return the interval of a mean in [−span, span] over clusters, from their sums and sizes, and the two-sided
    p-value of 0.

    The Bayesian bootstrap (Rubin 1981), with four imagined clusters beside those seen: one at either end, two at 0. For
    paired shares that is the posterior under a flat Dirichlet prior over the four cells (both right, one, other, none).
    """
    size = float(sizes.mean())
    imagined = np.array([[span * size, size], [-span * size, size], [0.0, size], [0.0, size]])
    # Clusters that came to the same are drawn as one: of many items few differ, and so there are few sorts.
    sorts, times = np.unique(np.concatenate([np.stack([sums, sizes], axis=1), imagined]), axis=0, return_counts=True)
    random, means = np.random.default_rng(0), np.empty(_DRAWS)
    at_once = max(1, 1_000_000 // len(sorts))
    for start in range(0, _DRAWS, at_once):
        shares = random.standard_gamma(times, (min(at_once, _DRAWS - start), len(sorts)))
        drawn = shares @ sorts
        means[start : start + at_once] = drawn[:, 0] / drawn[:, 1]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    # If nearly all values are the same, the imagined ones draw all means to one side of the sample.
    seen = float(sums.sum() / sizes.sum())
    low, high = min(float(low), seen), max(float(high), seen)
    p = min(1.0, 2.0 * (1 + min(int((means <= 0).sum()), int((means >= 0).sum()))) / (_DRAWS + 1))
    return Interval(low, high, level, "Dirichlet"), p


def wild(sums: Floats, sizes: Floats, span: float, level: float) -> tuple[Interval, float]:
    """Return the same by the wild cluster bootstrap of t, for few clusters: those means that it does not refuse.

    With the null imposed (Cameron, Gelbach and Miller 2008); signs are Rademacher's, and below 12 clusters Webb's six
    points (2014), since there are too few of the others to tell 5 % of.
    """
    clusters = len(sums)
    mean = float(sums.sum() / sizes.sum())
    random = np.random.default_rng(0)
    signs = random.choice([-1.0, 1.0], (_WILD_DRAWS, clusters))
    if clusters < 12:
        signs *= random.choice(_WEBB, (_WILD_DRAWS, clusters))

    def p_value(of: float) -> float:
        if of == mean:
            return 1.0
        seen = abs(mean - of) / _spread(sums - mean * sizes)
        drawn = signs * (sums - of * sizes)
        shift = drawn.sum(axis=1) / sizes.sum()
        statistics = np.abs(shift) / _spread(drawn - shift[:, None] * sizes)
        return float((1 + (statistics >= seen * (1 - 1e-9)).sum()) / (_WILD_DRAWS + 1))

    if _spread(sums - mean * sizes) == 0.0:  # all clusters are alike: that tells no spread
        return Interval(-span, span, level, "clusters without spread"), 1.0

    def end(outer: float) -> float:
        if p_value(outer) > 1 - level:
            return outer
        inner = mean
        for _ in range(_HALVINGS):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if p_value(middle) > 1 - level else (inner, middle)
        return outer

    return Interval(end(-span), end(span), level, "wild cluster bootstrap"), p_value(0.0)


def _spread(residuals: Floats) -> Floats:
    """Return a multiple of the standard error of the mean, from sums of clusters along the last axis."""
    clusters = residuals.shape[-1]
    squares = np.square(residuals).sum(axis=-1)
    return np.asarray(np.sqrt(np.maximum(squares, 1e-300 if squares.ndim else 0.0) * (clusters / (clusters - 1))))


LEAST_ITEMS: Final = 100
LEAST_DISCORDANT: Final = 10
FEW_CLUSTERS: Final = 40
FEWEST_CLUSTERS: Final = 5
_POWER: Final = 0.8


@dataclass(frozen=True, slots=True)
class Comparison:
    """B − A in the mean over items. `p` is two-sided, of no difference.

    `detectable` is the smallest true difference that a run of this size finds with a probability of 0.8. `discordant`
    counts items on which the two differ.
    """

    difference: float
    interval: Interval
    p: float
    detectable: float
    items: int
    clusters: int
    discordant: int


def compare(
    a: Floats, b: Floats, clusters: Ids | None = None, span: float = 1.0, level: float = 0.95
) -> Comparison | Undefined:
    """Return the comparison of scores of A and B, one row an item and both in a range of the length `span`.

    The caller leaves out items without a score of both, and reports their number. Raises ValueError where lengths
    differ, a score is not finite, or two differ by more than the span.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} scores of A and {len(b)} of B: each item has one of both")
    if not len(a):
        return Undefined("no item has a score of both")
    difference = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    if not np.isfinite(difference).all():
        raise ValueError("a score is no finite number: leave items out that failed, and tell how many")
    if np.abs(difference).max() > span:
        raise ValueError(f"two scores differ by more than {span:g}: say the span of the scale")
    groups = numbered(clusters, len(a))
    mean = float(difference.mean())
    interval, p = _interval(difference, groups, span, level)
    half = max(interval.high - mean, mean - interval.low)
    quantile = normal_quantile(level)
    # Beyond the end of the interval a true difference must lie by so much that chance takes it back in 1 of 5 only.
    detectable = half * (1 + normal_quantile(2 * _POWER - 1) / quantile)
    discordant = int(np.count_nonzero(difference))
    return Comparison(mean, interval, p, detectable, len(a), groups.count, discordant)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number: in at most a share α of cases any that is at most α is wrong (Holm
    1979).
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factors))
    back = np.empty(len(p_values))
    back[order] = adjusted
    return [float(item) for item in back]


def _interval(difference: Floats, groups: Clusters, span: float, level: float) -> tuple[Interval, float]:
    items, mean = len(difference), float(difference.mean())
    sums, sizes = groups.sums(difference), groups.sums(np.ones(items))
    differing = int((groups.sums(np.abs(difference)) > 0).sum())
    if groups.count < items and groups.count < FEWEST_CLUSTERS:
        return Interval(-span, span, level, f"{groups.count} clusters tell no spread"), 1.0
    if differing < min(LEAST_DISCORDANT, groups.count):  # of six clusters that all differ nothing is unseen
        return dirichlet(sums, sizes, span, level)
    if groups.count < items and groups.count < FEW_CLUSTERS:
        return wild(sums, sizes, span, level)
    if items < LEAST_ITEMS:
        return dirichlet(sums, sizes, span, level)
    error = standard_error((difference - mean) / items, groups)
    if error == 0.0:  # all differ by the same: no spread is seen, and there is some
        return dirichlet(sums, sizes, span, level)
    half = t_quantile(level, groups.count - 1) * error
    interval = Interval(max(-span, mean - half), min(span, mean + half), level, "clustered t")
    return interval, t_tail(mean / error, groups.count - 1)


# The mean of scores in [0, 1], with an interval that fits them.
#
# | when | method |
# |---|---|
# | all are 0 or 1 | Wilson's, at the effective number of rows |
# | under 100 clusters, or no spread is seen | Wilson's too: a mean of values in between varies less than a share |
# | else | t with C − 1 degrees of freedom, variance with C/(C − 1) |


def mean(scores: Floats, clusters: Ids | None = None, level: float = 0.95) -> Estimate | Undefined:
    """Return the mean of one score an item.

    It is Undefined without one. Raise ValueError for a score outside of [0, 1], or NaN.
    """
    rows = len(scores)
    if not rows:
        return Undefined("no item has a score")
    if not ((scores >= 0.0) & (scores <= 1.0)).all():
        raise ValueError("a score lies outside of 0 to 1: leave items out that have none, and tell how many")
    groups, value = numbered(clusters, rows), float(scores.mean())
    whole = bool(((scores == 0.0) | (scores == 1.0)).all())
    error = standard_error((scores - value) / rows, groups)
    if whole or groups.count < LEAST_ITEMS or error == 0.0:
        n = effective_rows(scores, np.ones(rows), groups, level)
        method = f"Wilson{at_effective(n, rows)}" + ("" if whole else ", as if all or nothing")
        return Estimate(value, wilson(value, n, level, method), rows, groups.count)
    half = t_quantile(level, groups.count - 1) * error
    interval = Interval(max(0.0, value - half), min(1.0, value + half), level, "clustered t")
    return Estimate(value, interval, rows, groups.count)


_TOO_MANY: Final = 10_000_000
# An estimate lies on the wrong side of its expected value in half of all runs. (1.960 + 0.842) / 1.960: quantiles of
# the normal distribution for a 95 % interval and 80 % power.
_POWER_80: Final = 1.43


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict about B. `more_items` is None where it is decided already, or where no number of items would decide."""

    says: Literal["better", "worse", "same", "unknown"]
    words: str
    p: float
    more_items: int | None = None


def verdicts(
    comparisons: Sequence[Comparison], margin: float, names: Sequence[tuple[str, str]] | None = None
) -> list[Verdict]:
    """Return a verdict for each comparison of a run, with Holm's correction over all of them.

    `names` are the names of A and B.

    `margin` is the smallest difference that matters, fixed before the run; two variants whose difference is surely
    smaller are the same. Intervals are not corrected.
    """
    named = [("A", "B")] * len(comparisons) if names is None else names
    adjusted = holm([comparison.p for comparison in comparisons])
    return [
        _verdict(comparison, p, margin, *pair) for comparison, p, pair in zip(comparisons, adjusted, named, strict=True)
    ]


def _verdict(of: Comparison, p: float, margin: float, a: str, b: str) -> Verdict:
    within = -margin < of.interval.low and of.interval.high < margin
    # Both must say it: p and interval are of one method, but an interval by draws may differ from it in the last digit.
    if p <= 1 - of.interval.level and not of.interval.holds(0.0):
        better = of.difference > 0
        small = f", less than the {_figure(margin)} that would matter" if within else ""
        words = f"{b} is {'better' if better else 'worse'} by {_difference(of, abs(of.difference))}{small}"
        return Verdict("better" if better else "worse", words, p)
    if within:
        return Verdict("same", f"{a} and {b} differ by less than {_figure(margin)}: {_difference(of)}", p)
    text = f"cannot tell: {_difference(of)}"
    if not of.interval.holds(0.0):
        return Verdict("unknown", f"{text}; with so many comparisons, chance alone may do that", p)
    more = _more_items(of, margin)
    if more is None:
        return Verdict("unknown", f"{text}; no number of items that can be had would tell", p)
    return Verdict("unknown", f"{text}; needs about {more:,} more items", p, more)


def _more_items(of: Comparison, margin: float) -> int | None:
    """Return how many more items would decide with 80 % power: the interval excludes 0, or fits within the margin, in
    four of five such runs. The difference that was seen is taken as the true one; the width goes with 1/√n.
    """
    half = max(of.interval.high - of.difference, of.difference - of.interval.low)
    target = max(abs(of.difference), margin - abs(of.difference))
    more = of.items * ((_POWER_80 * half / target) ** 2 - 1) if target > 0 else math.inf
    if more > _TOO_MANY:
        return None
    unit: int = 10 ** max(0, math.floor(math.log10(max(more, 1))) - 1)
    return max(1, math.ceil(more / unit) * unit)


def _difference(of: Comparison, shown: float | None = None) -> str:
    """Return 0.06 ± 0.04, or both ends where they are not equally far."""
    low, high = of.interval.low, of.interval.high
    if shown is not None and of.difference < 0:
        low, high = -high, -low
    value = of.difference if shown is None else shown
    up, down = high - value, value - low
    if _figure(up) == _figure(down):
        return f"{_figure(value)} ± {_figure(up)}"
    return f"{_figure(value)} ({_figure(low)} to {_figure(high)})"


def _figure(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")
