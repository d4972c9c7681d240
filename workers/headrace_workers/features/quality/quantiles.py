"""Quantiles and tails of the normal and Student's distribution. Tests compare them with SciPy's."""

import math
from statistics import NormalDist
from typing import Final

from headrace_workers.features.cache.calibration.binomial import incomplete_beta

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
