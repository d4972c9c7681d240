"""A proportion that is watched: bounds that hold at all times at once, over strata that are sampled unevenly.

For a bet b in (0, 1], (1 − b)^wrong / Π (1 − b·p_i) is a martingale that begins at 1. By Ville's inequality a mixture
of bets, multiplied over strata, ever reaches 1/α in at most a share α of worlds: the bound is the largest
served-weighted mean error whose value is below that (Howard et al. 2021; Waudby-Smith and Ramdas 2024; Spertus, Sridhar
and Stark 2024). It is found as the least of its Lagrangian duals, each of which is a bound, so search errs on the safe
side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
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
    share, k, n = (np.asarray(group, dtype=np.float64) for group in (shares, wrong, audits))
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


def spend(alpha: float, number: int) -> float:
    """Return the part of `alpha` for the claim with this number (from 1, in the order in which claims arise).

    α / (k·(k + 1)): however many there will be, their sum is below α. So a claim is false in at most a share α
    of worlds.
    """
    if number < 1:
        raise ValueError(f"claims are numbered from 1, not {number}")
    return alpha / (number * (number + 1))


@dataclass(frozen=True, slots=True)
class Stratum:
    """The serves from one band of similarity, and the results of their audits.

    Within it each serve has the same chance to be audited; other strata may have another. Raises ValueError for counts
    that cannot be.
    """

    served: int
    clean: int
    wrong: int
    unknown: int = 0

    def __post_init__(self) -> None:
        if min(self.served, self.clean, self.wrong, self.unknown) < 0 or self.audits > self.served:
            raise ValueError(f"a stratum has at most as many audits as serves, and no negative counts: {self}")

    @property
    def audits(self) -> int:
        """All answers that were generated afresh, also the undecided ones."""
        return self.clean + self.wrong + self.unknown

    @property
    def decided(self) -> int:
        """The audits with a verdict."""
        return self.clean + self.wrong


@dataclass(frozen=True, slots=True)
class Bound:
    """The share of wrong answers among those served, in [0, 1]; counts are sums over strata.

    `upper` is about the audits with a verdict, and is the truth's bound only if the others err no more often.
    `upper_if_unknown_wrong` needs no such belief. `lower` takes the unknown for clean: only wrong labels accuse.
    Each of the three is one-sided, at the alpha asked for. `estimate` is None without a verdict.
    """

    estimate: float | None
    upper: float
    lower: float
    audits: int
    wrong: int
    unknown: int
    upper_if_unknown_wrong: float

    @property
    def clean(self) -> int:
        """The audits that agreed."""
        return self.audits - self.wrong - self.unknown


def served_error(strata: Sequence[Stratum], alpha: float = 0.05) -> Bound:
    """Return the error among serves, with bounds that may be looked at after every audit.

    A stratum's error counts by its share of what was served, whatever share of it was audited. An error that changes in
    time is bounded in the mean; that mean is of audits, so a stratum whose chance to be audited changes begins anew.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is a probability between 0 and 1, not {alpha}")
    if not strata:
        return Bound(None, 1.0, 0.0, 0, 0, 0, 1.0)
    served = sum(stratum.served for stratum in strata)
    # Nothing served: every stratum might be all that will be.
    shares = [stratum.served / served if served else 1.0 / len(strata) for stratum in strata]
    wrong, unknown = [stratum.wrong for stratum in strata], [stratum.unknown for stratum in strata]
    decided, audits = [stratum.decided for stratum in strata], [stratum.audits for stratum in strata]
    doubtful = [stratum.wrong + stratum.unknown for stratum in strata]
    seen = [
        (share, stratum.wrong / stratum.decided)
        for share, stratum in zip(shares, strata, strict=True)
        if stratum.decided
    ]
    weight = sum(share for share, _ in seen)
    return Bound(
        estimate=sum(share * rate for share, rate in seen) / weight if weight else None,
        upper=min(1.0, watched_upper(shares, wrong, decided, alpha)),
        lower=max(0.0, watched_lower(shares, wrong, audits, alpha)),
        audits=sum(audits),
        wrong=sum(wrong),
        unknown=sum(unknown),
        upper_if_unknown_wrong=min(1.0, watched_upper(shares, doubtful, audits, alpha)),
    )


WINDOW: Final = 200  # audits


class State(StrEnum):
    """The state of the error bound of a scope's serves."""

    NOT_YET_SHOWN = "not yet shown"
    HOLDS = "holds"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Recent:
    """The strata of the newest window alone: `served` and audits since it began. `number` counts windows from 1."""

    number: int
    strata: Sequence[Stratum]


@dataclass(frozen=True, slots=True)
class Standing:
    """A scope's state, the sentence that says why, the bound over all time, and that of the newest window alone."""

    state: State
    sentence: str
    bound: Bound
    recent: Bound | None


def clean_audits_needed(max_error: float, alpha: float = 0.05) -> int:
    """Return how many clean audits it takes to show a bound, by any method: 299 for 1 % at 95 %.

    (1 − max_error)ⁿ ≤ α.
    """
    return math.ceil(math.log(alpha) / math.log1p(-max_error))


def standing(
    strata: Sequence[Stratum], max_error: float, *, recent: Recent | None = None, alpha: float = 0.05
) -> Standing:
    """Return the standing of `max_error`, the largest share of wrong answers among those served, by the audits so far.

    It may be asked after every audit. A scope that errs too often is ever told `holds` in at most a share `alpha` of
    worlds, and one that errs less is ever told `broken` in at most a share `alpha`: half of that for all time, half
    shared by the windows, which see a drift that a long good past would hide. Labels that say wrong break a scope,
    doubt does not; but `holds` is said only where it would hold with every undecided audit wrong. The caller keeps the
    tier off after `broken`: later audits may say otherwise. Raises ValueError for a max_error that is no share.
    """
    if not 0.0 < max_error < 1.0:
        raise ValueError(f"max_error is a share between 0 and 1, not {max_error}")
    bound = served_error(strata, alpha)
    newest = served_error(recent.strata, alpha) if recent is not None else None
    accusation = _accusation(strata, recent, max_error, alpha)
    if accusation is not None:
        return Standing(State.BROKEN, accusation, bound, newest)
    if bound.upper_if_unknown_wrong <= max_error:
        return Standing(State.HOLDS, _holds(bound, max_error), bound, newest)
    return Standing(State.NOT_YET_SHOWN, _not_yet(bound, max_error, alpha), bound, newest)


def _accusation(strata: Sequence[Stratum], recent: Recent | None, max_error: float, alpha: float) -> str | None:
    always = served_error(strata, alpha / 2)
    if always.lower > max_error:
        return _broken(always, max_error, "audits")
    if recent is not None:
        newest = served_error(recent.strata, spend(alpha / 2, recent.number))
        if newest.lower > max_error:
            return _broken(newest, max_error, "audits of the newest window")
    return None


def _broken(bound: Bound, max_error: float, which: str) -> str:
    return (
        f"Broken: {bound.wrong:,} of {bound.audits:,} {which} were wrong, so at least {_percent_down(bound.lower)} of "
        f"what was served is, and {_percent_up(max_error)} is allowed. The semantic tier of this scope is off."
    )


def _holds(bound: Bound, max_error: float) -> str:
    undecided = f", {bound.unknown:,} undecided and taken for wrong" if bound.unknown else ""
    return (
        f"Holds: at most {_percent_up(bound.upper_if_unknown_wrong)} of what was served is wrong, and "
        f"{_percent_up(max_error)} is allowed ({bound.audits:,} audits, {bound.wrong:,} wrong{undecided})."
    )


def _not_yet(bound: Bound, max_error: float, alpha: float) -> str:
    needed = clean_audits_needed(max_error, alpha)
    if bound.clean < needed:
        sentence = f"Not yet shown: {bound.clean:,} clean audits of the {needed:,} that it takes at least"
    else:
        sentence = (
            f"Not yet shown: at most {_percent_up(bound.upper)} is wrong, and {_percent_up(max_error)} is allowed"
        )
    sentence += f" ({bound.audits:,} audits, {bound.wrong:,} wrong)."
    if bound.unknown:
        sentence += (
            f" {bound.unknown:,} wait for a person's label (`headrace review audits`): were all of them wrong, at most "
            f"{_percent_up(bound.upper_if_unknown_wrong)} would be."
        )
    return sentence


def _percent_up(share: float) -> str:
    """Return a percentage with two places at most, rounded up: an upper bound must not look smaller than it is."""
    return f"{math.ceil(round(share * 1e4, 6)) / 100:g} %"


def _percent_down(share: float) -> str:
    return f"{math.floor(round(share * 1e4, 6)) / 100:g} %"
