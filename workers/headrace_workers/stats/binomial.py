"""A proportion that is looked at once: Clopper and Pearson's exact bounds."""

import math
from collections.abc import Callable
from typing import Final

_TINY: Final = 1e-300  # stands for a zero in a continued fraction
_TERMS: Final = 100_000  # about √max(a, b) are needed
_HALVINGS: Final = 60  # more than a float in [0, 1] has digits


def clopper_pearson_upper(wrong: float, audits: float, alpha: float) -> float:
    """Return the largest error rate under which `wrong` or fewer of `audits` still have the probability `alpha`.

    One-sided: in at most a share `alpha` of worlds the true rate is above it, if it is computed **once**, for a number
    of audits that was fixed before. Peeked at, it misses far more often: see `sequence`. Clopper and Pearson 1934.
    Counts need not be whole: weighted rows have effective counts.
    """
    if wrong >= audits:
        return 1.0
    return _bisect(lambda rate: incomplete_beta(rate, wrong + 1, audits - wrong) < 1 - alpha)


def clopper_pearson_lower(wrong: float, audits: float, alpha: float) -> float:
    """Return the lower bound of the same error rate: one-sided, at `alpha`."""
    return 1.0 - clopper_pearson_upper(audits - wrong, audits, alpha) if audits else 0.0


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b) for a, b > 0, which is P(Beta(a, b) ≤ x).

    Continued fraction 8.17.22 of the Digital Library of Mathematical Functions, by Lentz's method (Press et al.,
    Numerical Recipes, 6.4). About ten digits.
    """
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, the mirror's does fast
        return 1.0 - incomplete_beta(1.0 - x, b, a)
    front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(front) / (a * _fraction(x, a, b))


def _fraction(x: float, a: float, b: float) -> float:
    value, upper, lower = 1.0, 1.0, 0.0
    for term in range(1, _TERMS):
        m, odd = divmod(term, 2)
        if odd:
            numerator = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            numerator = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        lower = 1.0 / ((1.0 + numerator * lower) or _TINY)
        upper = (1.0 + numerator / upper) or _TINY
        value *= upper * lower
        if abs(upper * lower - 1.0) < 1e-13:
            break
    return value


def _bisect(too_low: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if too_low(middle) else (low, middle)
    return high
