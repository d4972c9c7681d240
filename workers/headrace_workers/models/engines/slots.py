"""Slots for batches: as many at once as there are cores, and one more for urgent work. Between two of its tokens, a
bulk run waits for urgent work that has no slot. A process that is idle gives memory back.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition
from typing import Final, TypeVar

from headrace_workers.core.machine import hand_back

AT_FIRST: Final = 0.5  # seconds that a run may wait before it has computed anything

T = TypeVar("T")
# Seconds. What comes later takes its pages anew: of SmolLM2 that is 800 MiB at most, and half a second of one core.
REST: Final = 30.0


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
        self._since = now() - AT_FIRST

    def between(self) -> None:
        """Wait if an urgent run needs it now, and this run has computed for as long."""
        if self._urgent_runs.wait(self._now() - self._since):
            self._since = self._now()


class Slots:
    """Slots in which `count` batches run at once, in the order in which they came. Thread-safe.

    An urgent batch that finds all of them busy runs at once in a slot of its own: one of the others waits meanwhile
    (`urgent_runs`).
    """

    def __init__(self, count: int) -> None:
        self.urgent_runs = UrgentRuns()
        self._count = count
        self._ordinary = ThreadPoolExecutor(count, thread_name_prefix="generate")
        self._spare = ThreadPoolExecutor(1, thread_name_prefix="urgent")
        self._lock = threading.Lock()
        self._taken = 0

    @property
    def free(self) -> int:
        """The number of ordinary slots that are free."""
        with self._lock:
            return max(0, self._count - self._taken)

    def submit(self, work: Callable[[], T], *, urgent: bool) -> "Future[T]":
        """Run `work` when a slot is free."""
        with self._lock:
            if urgent and self._taken >= self._count:
                return self._spare.submit(self._run_in_slot, work)
            self._taken += 1
        future = self._ordinary.submit(work)
        future.add_done_callback(self._give_back)
        return future

    def _run_in_slot(self, work: Callable[[], T]) -> T:
        with self.urgent_runs.urgent():
            return work()

    def _give_back(self, _future: object) -> None:
        with self._lock:
            self._taken -= 1


class IdleMemory:
    """A watch that calls `then` once whenever nothing was `busy` for so many seconds, in its thread. Thread-safe."""

    def __init__(self, then: Callable[[], object] = hand_back, seconds: float = REST) -> None:
        self._then = then
        self._seconds = seconds
        self._changed = threading.Condition()
        self._busy = 0
        self._begun = 0  # how often
        self._thread: threading.Thread | None = None

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count as busy while this block runs."""
        with self._changed:
            self._busy += 1
            self._begun += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="resting", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify()

    def _watch(self) -> None:
        told = 0
        while True:
            begun = self._rests(told)
            if begun is not None:
                self._then()
                told = begun

    def _rests(self, told: int) -> int | None:
        """Wait for an idle time after more than `told` runs.

        Return the number of runs, or None if another run began.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._begun != told and not self._busy)
            begun = self._begun
            again = self._changed.wait_for(lambda: self._begun != begun, self._seconds)
            return None if again else begun


IDLE_MEMORY: Final = IdleMemory()  # of this process: its memory is one
