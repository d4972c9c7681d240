"""When a step that did not succeed is tried again: a value of its stage."""

import random
from dataclasses import dataclass

_DOUBLINGS = 40  # more than reach any longest delay, and few enough for a float


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Delays in seconds that double from `first` to `longest`, with full jitter. `attempts` None: the deployment's."""

    first: float = 1.0
    longest: float = 60.0
    attempts: int | None = None

    def most(self, deployments: int) -> int:
        """How many attempts there are."""
        return self.attempts or deployments

    def delay(self, attempt: int, chance: random.Random, least: float = 0.0) -> float:
        """Seconds to the next attempt after this one (counted from 1): between zero and a bound that doubles.

        Full jitter spreads retries best (Brooker, "Exponential Backoff and Jitter", AWS 2015).
        """
        bound = min(self.longest, self.first * 2 ** min(max(attempt, 1) - 1, _DOUBLINGS))
        return max(least, chance.uniform(0.0, bound))
