"""From what similarity on an answer may be served: a curve of P(correct), and a proof that does not rest on its shape.

The curve is logistic, with a weak normal prior (ridge), and its lower bound comes from the delta method: in simulated
worlds this bound covered the truth in 95–100 % of cases at a nominal 95 %, and a weighted bootstrap in 90–97 %. But a
logistic curve goes to 1, and real ones need not: where 3 % of the nearest neighbours are wrong at any similarity, the
curve alone chose a threshold that broke its promise in each of 200 worlds. Hence the proof: the labels above the
threshold must themselves show that no more is wrong.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.cache.store.audits import OtherCounts, Pair, Tally, Window
from headrace_workers.features.cache.store.standings import NOT_YET, OFF, ScopeStanding
from headrace_workers.features.cache.store.standings import State as Told
from headrace_workers.stats.error_bounds import (
    UPPER_BETS,
    UPPER_WEIGHTS,
    Bound,
    Recent,
    State,
    Stratum,
    log_value,
    served_error,
    spend,
    standing,
)

Floats = NDArray[np.float64]

# Similarity is counted in steps of 0.1 from 0.85. The prior of intercept and slope is normal, with these means and a
# standard deviation of √10: before any label it believes 0.5 at 0.85, and hardly that.
_CENTRE: Final = 0.85
_STEP: Final = 0.1
_PRIOR_MEAN: Final = np.array([0.0, 1.0])
_PRIOR_PRECISION: Final = np.array([0.1, 0.1])
_NEWTON_STEPS: Final = 50
_HALVINGS: Final = 40
_STEEPEST: Final = 30.0  # log-odds beyond which a float's probability is 0 or 1


@dataclass(frozen=True, eq=False, slots=True)
class Curve:
    """P(correct) by similarity. `alpha` is the one-sided miss that each of its bounds may have."""

    alpha: float
    coefficients: Floats  # (2,) intercept and slope, in log-odds
    covariance: Floats  # (2, 2) of the posterior, by Laplace's approximation
    similarities: Floats  # (pairs,) descending
    wrong_above: Floats  # (pairs,) how many of the pairs down to this one are wrong

    def correct(self, similarity: float) -> float:
        """Return P(correct) at this similarity by the curve."""
        return float(_probability(_design(np.array([similarity])) @ self.coefficients)[0])

    def lower(self, similarity: float) -> float:
        """Return a lower bound of P(correct) at this similarity, if the truth is logistic."""
        return float(_lower(self, np.array([similarity]))[0])


def fit(similarities: Sequence[float], correct: Sequence[bool], alpha: float = 0.05) -> Curve:
    """Return the curve of labelled pairs, such as looked-up pairs whose new question was answered afresh.

    Pairs are drawn as look-ups come, not chosen by hand. Raises ValueError where lengths differ or a similarity is no
    finite number. If you fit again as labels come in, give each fit its part of alpha (`spending.spend`).
    """
    if len(similarities) != len(correct):
        raise ValueError(f"{len(similarities)} similarities and {len(correct)} labels: each pair has one of both")
    x, y = np.asarray(similarities, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("a similarity is no finite number")
    order = np.argsort(-x, kind="stable")
    coefficients, covariance = _posterior(x, y)
    return Curve(alpha, coefficients, covariance, x[order], np.cumsum(1.0 - y[order]))


def threshold(curve: Curve, max_error: float) -> float | None:
    """Return the smallest similarity of a labelled pair from which on serving keeps to `max_error`, or None.

    Two things must hold. From there on the lower bound of P(correct) is at least 1 − max_error. And among the pairs
    from there on no more than `max_error` is wrong, by a bound that holds for all such sets at once (`sequence`, with
    pairs in the order of similarity instead of time): so the best of them may be chosen. The second holds whatever the
    curve's shape.
    """
    x = curve.similarities
    if not len(x):
        return None
    audits = np.arange(1.0, len(x) + 1)
    value = log_value(np.full(len(x), max_error), curve.wrong_above, audits, UPPER_BETS, UPPER_WEIGHTS)
    proven = value >= -math.log(curve.alpha)
    proven[:-1] &= x[:-1] > x[1:]  # of equal similarities all are served, or none
    # The band around a straight line of log-odds may open again far out: from there *on* it must be high enough.
    trusted = np.logical_and.accumulate(_lower(curve, x) >= 1.0 - max_error)
    good = np.flatnonzero(proven & trusted)
    return float(x[good[-1]]) if len(good) else None


def _posterior(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return mode and covariance by Newton's method: the log posterior is concave, and the prior bounds it on separable
    pairs.

    A step that leads downhill is halved: with similarities far from the centre the first ones jump over the top, to
    where every probability is 0 or 1 and nothing leads back.
    """
    design = _design(x)
    at: Floats = _PRIOR_MEAN
    for _ in range(_NEWTON_STEPS):
        step = np.linalg.solve(_precision(design, at), _uphill(design, y, at))
        height = _log_posterior(design, y, at)
        for _ in range(_HALVINGS):
            if _log_posterior(design, y, at + step) >= height:
                break
            step = step / 2.0
        at = np.asarray(at + step)
        if np.abs(step).max() < 1e-9:
            break
    return at, np.asarray(np.linalg.inv(_precision(design, at)))


def _log_posterior(design: Floats, y: Floats, at: Floats) -> float:
    log_odds, off = design @ at, at - _PRIOR_MEAN
    return float((y * log_odds - np.logaddexp(0.0, log_odds)).sum() - (_PRIOR_PRECISION * off * off).sum() / 2.0)


def _uphill(design: Floats, y: Floats, at: Floats) -> Floats:
    return np.asarray(design.T @ (y - _probability(design @ at)) - _PRIOR_PRECISION * (at - _PRIOR_MEAN))


def _precision(design: Floats, at: Floats) -> Floats:
    p = _probability(design @ at)
    return np.asarray((design * (p * (1.0 - p))[:, None]).T @ design + np.diag(_PRIOR_PRECISION))


def _lower(curve: Curve, x: Floats) -> Floats:
    design = _design(x)
    spread = np.sqrt(np.einsum("ij,jk,ik->i", design, curve.covariance, design))
    return _probability(design @ curve.coefficients - NormalDist().inv_cdf(1.0 - curve.alpha) * spread)


def _design(x: Floats) -> Floats:
    return np.stack([np.ones_like(x), (x - _CENTRE) / _STEP], axis=1)


def _probability(log_odds: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(log_odds, -_STEEPEST, _STEEPEST))))


# Decided audits of the first curve; each later one has twice as many. The k-th spends its part of alpha: that shrinks
# with k² while the audits double, so each can show what the one before it could.
_FIRST_FIT: Final = 500
_ALPHA: Final = 0.05
_SCOPE_STATES: Final[dict[State, Told]] = {State.NOT_YET_SHOWN: NOT_YET, State.HOLDS: "shown", State.BROKEN: OFF}


def fit_due(before: ScopeStanding, tallies: Sequence[Tally], other_counts: OtherCounts = OtherCounts()) -> bool:  # noqa: B008 - a value
    """Return True if there are enough decided audits for another curve."""
    return sum(tally.clean + tally.wrong for tally in tallies) + other_counts.below.decided >= _FIRST_FIT << before.fits


def judge(
    before: ScopeStanding,
    tallies: Sequence[Tally],
    window: Window,
    max_error: float,
    other_counts: OtherCounts = OtherCounts(),  # noqa: B008 - a value
    pairs: Sequence[Pair] | None = None,
) -> ScopeStanding:
    """Return the state of a scope after these audits; with `pairs` its curve is fitted anew. One that was off stays
    off.

    `other_counts` are reported, and change no state.
    """
    recent = Recent(window.number, _strata(window.tallies)) if window.number > 1 else None
    strata = _strata(tallies)
    now = standing(strata, max_error, recent=recent, alpha=_ALPHA)
    least, fits = before.least, before.fits
    if pairs:
        fits += 1
        curve = fit([pair.similarity for pair in pairs], [pair.correct for pair in pairs], spend(_ALPHA, fits))
        least = threshold(curve, max_error)
    return ScopeStanding(
        scope=before.scope,
        tenant=before.tenant,
        state=_SCOPE_STATES[now.state] if before.state != OFF else OFF,
        sentence=now.sentence if before.state != OFF else before.sentence,
        figures={
            "max_error": max_error,
            "served": sum(tally.served for tally in tallies),
            **_figures(now.bound),
            "recent": None if now.recent is None else _figures(now.recent),
            # At this claim's part of alpha: so all scopes' claims hold at once.
            "upper_among_all": served_error(strata, spend(_ALPHA, before.number)).upper_if_unknown_wrong,
            "strata": [[stratum.served, stratum.clean, stratum.wrong, stratum.unknown] for stratum in strata],
            "below": other_counts.below._asdict(),
            "refused": other_counts.refused._asdict(),
            "own": other_counts.own._asdict(),
        },
        least=least,
        fits=fits,
        since=before.since,
        number=before.number,
    )


@dataclass(frozen=True, slots=True)
class Whole:
    """The statement about all scopes together: the error among all semantic hits, and how many scopes are shown to keep
    to their bound. Both may be looked at after every audit.
    """

    scopes: int
    shown: int
    served: int
    bound: Bound


def together(scopes: Sequence[ScopeStanding]) -> Whole | None:
    """All of these at once, as they were last judged; None where none was.

    The error of all is bounded as that of one is, with every stratum of every scope as a stratum of it: that needs no
    split of alpha. That some are `shown` is one claim for each, and the claims share alpha by their numbers: so all of
    them hold at once.
    """
    judged = [scope.figures for scope in scopes if scope.figures.get("strata")]
    if not judged:
        return None
    strata = [Stratum(*counts) for figures in judged for counts in figures["strata"]]
    shown = sum(figures["upper_among_all"] <= figures["max_error"] for figures in judged)
    return Whole(len(judged), shown, sum(stratum.served for stratum in strata), served_error(strata, _ALPHA))


def _strata(tallies: Sequence[Tally]) -> list[Stratum]:
    return [Stratum(tally.served, tally.clean, tally.wrong, tally.unknown) for tally in tallies]


def _figures(bound: Bound) -> dict[str, Any]:
    return {**asdict(bound), "clean": bound.clean}
