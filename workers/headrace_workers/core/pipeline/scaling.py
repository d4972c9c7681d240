"""How many workers a queue needs, by what is ready, when it is due, and how fast one worker is.

Work is in tokens, the rough cost of steps. Pure functions: bench/scaling.py compares them with other rules.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

QUIET_SECONDS: Final = 300.0  # no more workers were needed for so long, before there are fewer
START_SECONDS: Final = 60.0  # that a new worker takes until it works: to be scheduled, and to load its model
LEAST_SECONDS: Final = 30.0  # that work has at least, however near its due time is: more workers would not help
# Steps without a due time should be done within so many seconds.
PATIENCE: Final = {0: 60.0, 1: 3_600.0}  # by the lane: interactive, batch
_REMEMBERED_SECONDS: Final = 900.0  # of work, from which a rate is learnt


class DueWork(NamedTuple):
    """Ready steps that are due in so many `seconds`, and their work."""

    seconds: float
    steps: int
    work: float


class Rate(NamedTuple):
    """The work that was done of late, and the seconds that it took of one of a worker's slots."""

    work: float = 0.0
    seconds: float = 0.0

    @property
    def per_second(self) -> float | None:
        """Return the work of one slot in a second; None while nothing is learnt."""
        return self.work / self.seconds if self.work > 0 and self.seconds > 0 else None


class Peak(NamedTuple):
    """A number of workers that were wanted at a time (s)."""

    at: float
    workers: int


def learn(before: Rate, work: float, seconds: float) -> Rate:
    """Return the rate after some more work took so many seconds of a slot. Old work counts less and less."""
    kept = min(1.0, max(0.0, _REMEMBERED_SECONDS - seconds) / before.seconds) if before.seconds else 0.0
    return Rate(before.work * kept + work, before.seconds * kept + seconds)


def workers_needed(ready: Sequence[DueWork], rate: float | None, *, current: int, busy: int) -> int:
    """Return how many workers a queue needs now: enough to do what is ready by each time at which some of it is due,
    and never fewer than are at work.

    `rate` is the work of one worker in a second, or None while it is not known: then there should be one more than the
    `current` number of workers.
    """
    steps = sum(work.steps for work in ready)
    if not steps:
        return busy
    if rate is None:
        return max(current, busy) + 1
    needed, until_then = 1, 0.0
    for due in sorted(ready):
        until_then += due.work
        seconds = max(due.seconds - START_SECONDS, LEAST_SECONDS)
        needed = max(needed, math.ceil(until_then / seconds / rate))
    return max(min(needed, steps), busy)


def after_quiet(peaks: Sequence[Peak], now: float, workers: int) -> tuple[Peak, ...]:
    """Return the peaks of the last `QUIET_SECONDS` with this number of workers, the highest first: that is wanted.

    A peak that a later number reached is left out. So is one in the future, which was noted before the clock was set
    back.
    """
    kept = (peak for peak in peaks if now - QUIET_SECONDS < peak.at <= now and peak.workers > workers)
    return (*kept, Peak(now, workers))
