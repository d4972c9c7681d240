"""Retry schedule: when a step that did not succeed is tried again. It is a value of its stage."""

import random
from dataclasses import dataclass

_SPREAD = 0.1  # of a delay that is named
_DOUBLINGS = 40  # more than reach any longest delay, and few enough for a float


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Delays in seconds that double from `first` to `longest`, with full jitter. `attempts` None: the deployment's.

    With `delays` those, one for each attempt after the first, a tenth more or less.
    """

    first: float = 1.0
    longest: float = 60.0
    attempts: int | None = None
    delays: tuple[float, ...] = ()

    def most(self, deployments: int) -> int:
        """Return how many attempts there are."""
        return len(self.delays) + 1 if self.delays else self.attempts or deployments

    def delay(self, attempt: int, chance: random.Random, least: float = 0.0) -> float:
        """Return the seconds to the next attempt after this one (counted from 1): between zero and a bound that
        doubles.

        Full jitter spreads retries best (Brooker, "Exponential Backoff and Jitter", AWS 2015).
        """
        if self.delays:
            usual = self.delays[min(max(attempt, 1), len(self.delays)) - 1]
            return max(least, usual * chance.uniform(1 - _SPREAD, 1 + _SPREAD))
        bound = min(self.longest, self.first * 2 ** min(max(attempt, 1) - 1, _DOUBLINGS))
        return max(least, chance.uniform(0.0, bound))
