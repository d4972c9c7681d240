"""Intervals of a mean where the normal approximation fails: few items, few that differ, few clusters.

Draws come from a fixed seed: the same data say the same.
"""

from typing import Final

import numpy as np

from headrace_workers.features.quality.clusters import Floats
from headrace_workers.features.quality.interval import Interval

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
