"""A proportion that is watched: bounds that hold at all times at once, over strata that are sampled unevenly.

*One stratum.* Let the i-th audit find an error with probability p_i, given all before. For a bet b in (0, 1] the
value (1 − b)^wrong / Π (1 − b·p_i) is a martingale that begins at 1, and since the logarithm is concave it is at least
(1 − b)^wrong / (1 − b·p)^audits, where p is the mean of the p_i. By Ville's inequality it ever reaches 1/α in at most a
share α of worlds. So does a mixture over several bets, whose weights sum to 1: then no bet need be chosen before the
error is known. Robbins 1970 (mixtures); Howard, Ramdas, McAuliffe and Sekhon 2021 (sub-Bernoulli bounds); Waudby-Smith
and Ramdas 2024 (bets). What is bounded is the **mean of the error so far**: it need not stand still.

*Several strata.* The product over strata is such a value, too, in whatever order and however often each is audited. So
the truth lies, at all times, among the rates with Σ log value(rate of the stratum) < log 1/α, and the largest
served-weighted sum of these is the bound (Spertus, Sridhar and Stark 2024 on sequential stratified inference). A split
of α over four strata would need five times the audits.

The set is convex, hence that largest sum is the least of its Lagrangian duals, and every dual is a bound: numerical
search errs on the safe side.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Most strata show no error. The bet for that (b = 1: an error loses all) has half of the weight, since each stratum
# pays for its weight; the others suit one error (0.9) to tens of thousands (0.012), and few errors matter most. So 1 %
# is shown by 333 clean audits of one stratum and 352 of four, by 718 with one error, 1,165 with three, 2,327 with ten.
_FEW_ERRORS_FIRST: Final = 0.5 ** np.arange(13) + 0.02
UPPER_BETS: Final[Floats] = np.concatenate([[1.0], 0.9 * 0.7 ** np.arange(13)])
UPPER_WEIGHTS: Final[Floats] = np.concatenate([[0.5], 0.5 * _FEW_ERRORS_FIRST / _FEW_ERRORS_FIRST.sum()])
# For the lower bound right and wrong change places; an error's factor is 1/(1 − b), from e⁸ down to 1.01.
LOWER_BETS: Final[Floats] = -np.expm1(-8.0 * 0.7 ** np.arange(19))
LOWER_WEIGHTS: Final[Floats] = np.full(19, 1 / 19)

_MOST: Final = 1.0 - 1e-13
_HALVINGS: Final = 45
_ROUNDS: Final = 5
_POINTS: Final = 16


def watched_upper(shares: Sequence[float], wrong: Sequence[int], audits: Sequence[int], alpha: float) -> float:
    """Return an upper bound of Σ share × error rate. In at most a share `alpha` of cases it is ever below the truth.

    One item a stratum: its share of what was served (they sum to 1), and how many of its audits were wrong.
    """
    return _largest(shares, wrong, audits, alpha, UPPER_BETS, UPPER_WEIGHTS)


def watched_lower(shares: Sequence[float], wrong: Sequence[int], audits: Sequence[int], alpha: float) -> float:
    """Return a lower bound of the same, at an `alpha` of its own."""
    right = [n - k for n, k in zip(audits, wrong, strict=True)]
    return sum(shares) - _largest(shares, right, audits, alpha, LOWER_BETS, LOWER_WEIGHTS)


def log_value(rates: Floats, wrong: Floats, audits: Floats, bets: Floats, weights: Floats) -> Floats:
    """Return the logarithm of the mixture's value.

    Rates, wrong and audits have one shape, and the result has it too.
    """
    return np.asarray(np.logaddexp.reduce(_terms(rates, wrong, audits, bets, weights), axis=-1))


def _terms(rates: Floats, wrong: Floats, audits: Floats, bets: Floats, weights: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.where(wrong[..., None] > 0, wrong[..., None] * np.log1p(-bets), 0.0)
    return np.asarray(np.log(weights) + lost - audits[..., None] * np.log1p(-rates[..., None] * bets))


def _largest(
    shares: Sequence[float],
    wrong: Sequence[int],
    audits: Sequence[int],
    alpha: float,
    bets: Floats,
    weights: Floats,
) -> float:
    """Return the largest Σ share × rate with Σ log value ≤ log 1/α: the least dual over prices, in a search that
    narrows.
    """
    share, k, n = (np.asarray(each, dtype=np.float64) for each in (shares, wrong, audits))
    best, low, high = float(share.sum()), -45.0, 5.0
    for _ in range(_ROUNDS):
        prices = np.exp(np.linspace(low, high, _POINTS))
        duals = _duals(prices, share, k, n, -math.log(alpha), bets, weights)
        at, step = int(duals.argmin()), (high - low) / (_POINTS - 1)
        best = min(best, float(duals[at]))
        low, high = low + (at - 1) * step, low + (at + 1) * step
    return best


def _duals(prices: Floats, share: Floats, k: Floats, n: Floats, room: float, bets: Floats, weights: Floats) -> Floats:
    """Return for each price of evidence: price × room + Σ max over the rate of (share × rate − price × log value)."""
    price = prices[:, None]
    shape = (len(prices), len(share))
    k, n = np.broadcast_to(k, shape), np.broadcast_to(n, shape)
    low, high = np.zeros(shape), np.full(shape, _MOST)
    for _ in range(_HALVINGS):  # log value is convex in the rate: its slope tells where the largest is
        rate = (low + high) / 2
        terms = _terms(rate, k, n, bets, weights)
        terms = np.exp(terms - terms.max(axis=-1, keepdims=True))
        slope = n * (terms * bets / (1.0 - rate[..., None] * bets)).sum(axis=-1) / terms.sum(axis=-1)
        more = price * slope < share
        low, high = np.where(more, rate, low), np.where(more, high, rate)
    gain = share * high - price * log_value(low, k, n, bets, weights)
    return np.asarray(price[:, 0] * room + gain.sum(axis=-1))
