"""Simulated worlds with a known truth, for tests; run as a module it prints the figures of docs/recall-bound.md."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from headrace_workers.calibration.binomial import clopper_pearson_upper
from headrace_workers.calibration.bounds import Stratum, served_error
from headrace_workers.calibration.curve import Curve, fit, threshold
from headrace_workers.calibration.sequence import UPPER_BETS, UPPER_WEIGHTS, log_value

Floats = NDArray[np.float64]

# Four strata of similarity: what share of serves each has, how often it errs (1.00 % together), and the chance of a
# serve to be audited, which is far from even.
SHARES = np.array([0.05, 0.15, 0.25, 0.55])
RATES = np.array([0.08, 0.02, 0.0076, 0.002])
CHANCES = np.array([1.0, 0.5, 0.3, 0.05])

# P(correct) by similarity: what a logistic curve can follow, what it cannot, and what never gets good enough.
CURVES: dict[str, Callable[[Floats], Floats]] = {
    "logistic": lambda s: 1 / (1 + np.exp(-(s - 0.8) / 0.02)),
    "shallow": lambda s: 1 / (1 + np.exp(-(s - 0.7) / 0.05)),
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
        arrivals = chance.choice(4, size=audits, p=SHARES * CHANCES / (SHARES * CHANCES).sum())
        rates = RATES[arrivals] * (1.0 + drift * np.sin(np.arange(audits) / 60.0))
        here = arrivals[:, None] == np.arange(4)
        counts = np.cumsum(here, axis=0).astype(np.float64)
        wrong = np.cumsum(here * (chance.random(audits) < rates)[:, None], axis=0).astype(np.float64)
        means = np.cumsum(here * rates[:, None], axis=0) / np.maximum(counts, 1.0)
        against = log_value(means, wrong, counts, UPPER_BETS, UPPER_WEIGHTS).sum(axis=1)
        refuted = np.flatnonzero(against > -np.log(0.05))
        if len(refuted):
            perhaps += 1
            looks = (int(against.argmax()), refuted[0], refuted[-1])
            surely += any(_upper(counts[at], wrong[at]) < float(SHARES @ means[at]) for at in looks)
    return surely, perhaps


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
