"""Simulated worlds with a known truth, for tests. As a module: the figures of docs/explanation/cache-bound.md."""

import numpy as np
from numpy.typing import NDArray

from headrace_workers.stats.binomial import clopper_pearson_upper
from headrace_workers.stats.error_bounds import (
    UPPER_BETS,
    UPPER_WEIGHTS,
    Stratum,
    log_value,
    served_error,
)

Floats = NDArray[np.float64]
_ALPHA = 0.05

# Four strata of similarity: what share of serves each has, how often it errs (1.00 % together), and the chance of a
# serve to be audited, which is far from even.
SHARES = np.array([0.05, 0.15, 0.25, 0.55])
RATES = np.array([0.08, 0.02, 0.0076, 0.002])
CHANCES = np.array([1.0, 0.5, 0.3, 0.05])


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


def missed_together(worlds: int, scopes: int, audits: int, chance: np.random.Generator) -> int:
    """In how many worlds the bound on the error of all scopes is ever wrong, looked at after every audit of any.

    Scopes have audits like 1, 1/2, 1/3, ….
    """
    weights = 1.0 / np.arange(1, scopes + 1)
    missed = 0
    for _ in range(worlds):
        whose = chance.choice(scopes, size=audits, p=weights / weights.sum())
        against = np.zeros((audits, scopes))
        for scope in range(scopes):
            mine = np.flatnonzero(whose == scope)
            own = np.concatenate([[0.0], _against(*_scope(len(mine), chance))])
            against[:, scope] = own[np.searchsorted(mine, np.arange(audits), side="right")]
        missed += bool(against.sum(axis=1).max() > -np.log(_ALPHA))
    return missed


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


def _print_figures() -> None:
    chance = np.random.default_rng(7)
    for drift in (0.0, 0.9):
        least, most = watched_misses(2_000, 1_500, chance, drift)
        told = f"{least / 2_000:.1%} to {most / 2_000:.1%} of 2,000 worlds"
        print(f"watched, four strata, uneven, drift {drift:.0%}: {told}")
    for scopes in (3, 20):
        missed = missed_together(2_000, scopes, 3_000, chance)
        print(f"{scopes} scopes together: {missed / 2_000:.1%} of 2,000 worlds")
    for every in (1, 25):
        for rate in (0.01, 0.05):
            misses = peeked_misses(4_000, 1_500, every, rate, chance)
            print(f"Clopper–Pearson at {rate:.0%}, peeked at every {every}: {misses / 4_000:.1%} of 4,000 worlds")


if __name__ == "__main__":
    _print_figures()
