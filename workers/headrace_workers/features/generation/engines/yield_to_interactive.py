"""Bulk runs wait, between two of their tokens, while something urgent is computed beside full slots.

There are as many slots as cores. One more run would share them, and take half as long again; so one of the bulk runs
waits until the urgent one has ended. No run waits longer than it has computed since it last waited: where urgent work
never ends, a bulk run still has half of a slot.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Final

_AT_FIRST: Final = 0.5  # seconds that a run may wait before it has computed anything


class UrgentRuns:
    """Urgent computations beside full slots, and the bulk runs that wait for them. Thread-safe."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._changed = Condition()
        self._urgent = 0
        self._waiting = 0

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Count as urgent while this block runs."""
        with self._changed:
            self._urgent += 1
        try:
            yield
        finally:
            with self._changed:
                self._urgent -= 1
                self._changed.notify_all()

    def start_bulk_run(self) -> "Run":
        """Return a bulk run that begins now."""
        return Run(self, self._now)

    @property
    def busy(self) -> bool:
        """True while something urgent is computed beside full slots."""
        return self._urgent > 0

    @property
    def waiting(self) -> int:
        """The number of bulk runs that wait now."""
        return self._waiting

    def wait(self, most: float) -> float:
        """Wait while an urgent run computes, `most` seconds at most, if a run has to; return the seconds waited."""
        if most <= 0 or not self._urgent:  # mostly so, and this is asked for each token
            return 0.0
        with self._changed:
            if self._waiting >= self._urgent:  # another does
                return 0.0
            self._waiting += 1
            begun = self._now()
            try:
                self._changed.wait_for(lambda: not self._urgent, most)
            finally:
                self._waiting -= 1
            return self._now() - begun


class Run:
    """A bulk run, which may wait `between` two of its tokens. Belongs to the thread that computes it."""

    def __init__(self, urgent_runs: UrgentRuns, now: Callable[[], float]) -> None:
        self._urgent_runs = urgent_runs
        self._now = now
        self._since = now() - _AT_FIRST

    def between(self) -> None:
        """Wait if an urgent run needs it now, and this run has computed for as long."""
        if self._urgent_runs.wait(self._now() - self._since):
            self._since = self._now()
