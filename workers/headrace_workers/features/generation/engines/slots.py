"""Slots for batches: as many at once as there are cores, and one more for urgent work."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from headrace_workers.features.generation.engines.yield_to_interactive import UrgentRuns

T = TypeVar("T")


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
