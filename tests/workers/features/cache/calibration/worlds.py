"""Simulated worlds with a known truth, for tests. As a module: the figures of docs/explanation/cache-bound.md."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.cache.auditing import BANDS
from headrace_workers.features.cache.calibration.scope_fit import Curve, fit, threshold
from headrace_workers.stats.binomial import clopper_pearson_upper
from headrace_workers.stats.error_bounds import (
    UPPER_BETS,
    UPPER_WEIGHTS,
    Stratum,
    log_value,
    served_error,
    spend,
    watched_upper,
)

Floats = NDArray[np.float64]
_ALPHA = 0.05
_FIRST_FIT = 500

# Four strata of similarity: what share of serves each has, how often it errs (1.00 % together), and the chance of a
# serve to be audited, which is far from even.
SHARES = np.array([0.05, 0.15, 0.25, 0.55])
RATES = np.array([0.08, 0.02, 0.0076, 0.002])
CHANCES = np.array([1.0, 0.5, 0.3, 0.05])

# P(correct) by similarity: what a logistic curve can follow, what it cannot, and what never gets good enough.
CURVES: dict[str, Callable[[Floats], Floats]] = {
    "logistic": lambda s: 1 / (1 + np.exp(-(s - 0.8) / 0.02)),
    "shallow": lambda s: 1 / (1 + np.exp(-(s - 0.7) / 0.05)),
    "right from 0.75 on": lambda s: 1 / (1 + np.exp(-(s - 0.66) / 0.015)),
    "step": lambda s: np.where(s < 0.85, 0.7, 0.998),
    "up to 99.5 %": lambda s: 0.995 / (1 + np.exp(-(s - 0.75) / 0.02)),
    "up to 98.5 %": lambda s: 0.985 / (1 + np.exp(-(s - 0.8) / 0.02)),
    "up to 97 %": lambda s: 0.97 / (1 + np.exp(-(s - 0.8) / 0.02)),
    "falling at the end": lambda s: np.where(s > 0.97, 0.95, 1 / (1 + np.exp(-(s - 0.8) / 0.02))),
}


def watched_misses(worlds: int, audits: int, chance: np.random.Generator, drift: float = 0.0) -> tuple[int, int]:
    """In how many worlds the bound misses the truth, as at least and at most, when it is looked at after every audit.

    The bound is the largest error among rates that the audits do not refute, so it can be below the truth only where
    they refute the true rates: worlds in which they ever do are the most. The least are those where `served_error` is
    below the truth when that is refuted most, or first, or last. The serves' error moves by ± `drift` of itself in
    time; the truth at any time is the mean so far in each stratum.
    """
    surely, perhaps = 0, 0
    for _ in range(worlds):
        counts, wrong, means = _scope(audits, chance, drift)
        against = _against(counts, wrong, means)
        refuted = np.flatnonzero(against > -np.log(_ALPHA))
        if len(refuted):
            perhaps += 1
            looks = (int(against.argmax()), refuted[0], refuted[-1])
            surely += any(_upper(counts[at], wrong[at]) < float(SHARES @ means[at]) for at in looks)
    return surely, perhaps


def _scope(audits: int, chance: np.random.Generator, drift: float = 0.0) -> tuple[Floats, Floats, Floats]:
    """Audits of one scope as they come: after each, by stratum, how many there are and are wrong, and the true mean."""
    arrivals = chance.choice(4, size=audits, p=SHARES * CHANCES / (SHARES * CHANCES).sum())
    rates = RATES[arrivals] * (1.0 + drift * np.sin(np.arange(audits) / 60.0))
    return _counted(arrivals, rates, chance.random(audits) < rates)


def _counted(strata: NDArray[np.int64], rates: Floats, wrong: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    here = strata[:, None] == np.arange(4)
    counts = np.cumsum(here, axis=0).astype(np.float64)
    means = np.cumsum(here * rates[:, None], axis=0) / np.maximum(counts, 1.0)
    return counts, np.cumsum(here * wrong[:, None], axis=0).astype(np.float64), means


def _against(counts: Floats, wrong: Floats, means: Floats) -> Floats:
    """The evidence against the truth after each audit, as a logarithm."""
    return np.asarray(log_value(means, wrong, counts, UPPER_BETS, UPPER_WEIGHTS).sum(axis=1))


def missed_together(worlds: int, scopes: int, audits: int, chance: np.random.Generator) -> tuple[int, int, int]:
    """In how many worlds the claims about all scopes are ever wrong, looked at after every audit of any of them: the
    bound on the error of all; the claims of each that share alpha; and these if each had all of alpha.

    A claim about a scope can be wrong only where the truth is refuted in it. Scopes have audits like 1, 1/2, 1/3, ….
    """
    weights = 1.0 / np.arange(1, scopes + 1)
    parts = -np.log([spend(_ALPHA, number) for number in range(1, scopes + 1)])
    whole, sharing, alone = 0, 0, 0
    for _ in range(worlds):
        whose = chance.choice(scopes, size=audits, p=weights / weights.sum())
        against = np.zeros((audits, scopes))
        for scope in range(scopes):
            mine = np.flatnonzero(whose == scope)
            own = np.concatenate([[0.0], _against(*_scope(len(mine), chance))])
            against[:, scope] = own[np.searchsorted(mine, np.arange(audits), side="right")]
        whole += bool(against.sum(axis=1).max() > -np.log(_ALPHA))
        sharing += bool((against.max(axis=0) > parts).any())
        alone += bool((against.max(axis=0) > -np.log(_ALPHA)).any())
    return whole, sharing, alone


def lives(name: str, worlds: int, look_ups: int, chance: np.random.Generator) -> tuple[int, int, float, int]:
    """A scope from its first audit on, which explores what it nearly serves: in how many worlds its bound ever misses
    the truth, and in how many one of its curves' thresholds serves more than 1 % wrong; the mean threshold at the end,
    and how many have one.

    Of look-ups no guard refuses the nearest. A threshold of 0.8 stands at the beginning; what lies above is served and
    audited, what lies below is explored, with the same chance, and counts for the curve alone. That is fitted at 500
    labels, 1,000, 2,000, …; it goes below the first threshold only while the bound is within 1 %.
    """
    correct, first = CURVES[name], 0.8
    population = np.sort(_near(40_000, chance))
    above = np.cumsum((1.0 - correct(population))[::-1])[::-1] / np.arange(len(population), 0, -1)
    missed, broken, ends = 0, 0, []
    for _ in range(worlds):
        s = _near(look_ups, chance)
        right = chance.random(look_ups) < correct(s)
        serves, least, fits = np.zeros(look_ups, np.bool_), first, 0
        ends_at, begins, promised = min(_FIRST_FIT, look_ups), 0, None
        while begins < look_ups:
            serves[begins:ends_at] = s[begins:ends_at] >= least
            begins = ends_at
            fits += 1
            chosen = threshold(fit(list(s[:begins]), list(right[:begins]), spend(_ALPHA, fits)), 0.01)
            shown = _shown(s[:begins], right[:begins], serves[:begins])
            least = first if chosen is None else chosen if shown else max(first, chosen)
            promised = chosen if chosen is not None and chosen == least else promised
            if promised is not None and above[min(np.searchsorted(population, promised), len(above) - 1)] > 0.01:
                broken += 1
                break
            ends_at = min(2 * begins, look_ups)
        counted = _counted(_bands(s[serves]), 1.0 - correct(s[serves]), ~right[serves])
        missed += bool((_against(*counted) > -np.log(_ALPHA)).any())
        ends += [] if promised is None else [promised]
    return missed, broken, float(np.mean(ends)) if ends else first, len(ends)


def _shown(similarities: Floats, right: NDArray[np.bool_], serves: NDArray[np.bool_]) -> bool:
    strata, wrong = _bands(similarities[serves]), ~right[serves]
    audits = [int((strata == each).sum()) for each in range(4)]
    errors = [int(wrong[strata == each].sum()) for each in range(4)]
    return watched_upper([n / max(1, sum(audits)) for n in audits], errors, audits, _ALPHA) <= 0.01


def _bands(similarities: Floats) -> NDArray[np.int64]:
    return np.asarray(np.maximum(0, np.searchsorted(BANDS, similarities, side="right") - 1))


def _near(count: int, chance: np.random.Generator) -> Floats:
    found = _similarities(3 * count, chance)
    return found[found >= 0.7][:count]


def _upper(counts: Floats, wrong: Floats) -> float:
    strata = [
        Stratum(served=int(1e9 * share), clean=int(n - k), wrong=int(k))
        for share, n, k in zip(SHARES, counts, wrong, strict=True)
    ]
    return served_error(strata).upper


def peeked_misses(worlds: int, audits: int, every: int, rate: float, chance: np.random.Generator) -> int:
    """The same for Clopper–Pearson at 95 % and one stratum, looked at after each `every` audits."""
    peeks = np.arange(every, audits + 1, every)
    refuting = np.full(len(peeks), -1)  # the most errors at which the bound is below the truth
    for i, n in enumerate(peeks):
        while clopper_pearson_upper(int(refuting[i]) + 1, int(n), 0.05) < rate:
            refuting[i] += 1
    wrong = np.cumsum(chance.random((worlds, audits)) < rate, axis=1)[:, peeks - 1]
    return int((wrong <= refuting).any(axis=1).sum())


def thresholds(
    name: str,
    worlds: int,
    pairs: int,
    chance: np.random.Generator,
    choose: Callable[[Curve, float], float | None] = threshold,
) -> tuple[int, float, float]:
    """How often the threshold chosen for 1 % serves more wrong; the share served; and what perfect knowledge serves."""
    correct = CURVES[name]
    population = np.sort(_similarities(40_000, chance))
    errors = 1.0 - correct(population)
    above = np.cumsum(errors[::-1])[::-1] / np.arange(len(population), 0, -1)
    good = np.flatnonzero(np.maximum.accumulate(errors[::-1])[::-1] <= 0.01)
    misses, served = 0, 0.0
    for _ in range(worlds):
        s = _similarities(pairs, chance)
        chosen = choose(fit(list(s), list(chance.random(pairs) < correct(s))), 0.01)
        at = len(population) if chosen is None else int(np.searchsorted(population, chosen))
        if at < len(population):
            misses += bool(above[at] > 0.01)
            served += 1.0 - at / len(population)
    return misses, served / worlds, len(good) / len(population)


def trusting(curve: Curve, max_error: float) -> float | None:
    """What `threshold` would be if the logistic curve were believed without a proof."""
    good = [s for s in np.linspace(0.6, 1.0, 201) if curve.lower(float(s)) >= 1.0 - max_error]
    return float(good[0]) if good else None


def _similarities(count: int, chance: np.random.Generator) -> Floats:
    return np.asarray(0.6 + 0.4 * chance.beta(2.0, 1.5, count))


def _print_figures() -> None:
    chance = np.random.default_rng(7)
    for drift in (0.0, 0.9):
        least, most = watched_misses(2_000, 1_500, chance, drift)
        told = f"{least / 2_000:.1%} to {most / 2_000:.1%} of 2,000 worlds"
        print(f"watched, four strata, uneven, drift {drift:.0%}: {told}")
    for scopes in (3, 20):
        whole, sharing, alone = missed_together(2_000, scopes, 3_000, chance)
        told = (
            f"all {whole / 2_000:.1%}, each and all at once {sharing / 2_000:.1%}, without sharing {alone / 2_000:.1%}"
        )
        print(f"{scopes} scopes together: {told} of 2,000 worlds")
    for name in CURVES:
        missed, broken, least, some = lives(name, 200, 8_000, chance)
        print(f"a scope's life, {name}: {missed} of 200 miss, {broken} thresholds break; {some} end at {least:.3f}")
    for every in (1, 25):
        for rate in (0.01, 0.05):
            misses = peeked_misses(4_000, 1_500, every, rate, chance)
            print(f"Clopper–Pearson at {rate:.0%}, peeked at every {every}: {misses / 4_000:.1%} of 4,000 worlds")
    for name in CURVES:
        for pairs in (2_000, 8_000):
            misses, served, possible = thresholds(name, 100, pairs, chance)
            alone, _, _ = thresholds(name, 100, pairs, chance, trusting)
            print(
                f"{name}, {pairs:,} pairs: {misses} of 100 miss, {served:.0%} of {possible:.0%} served; alone {alone}"
            )


if __name__ == "__main__":
    _print_figures()
