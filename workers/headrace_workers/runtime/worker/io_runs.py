"""Runs of stages that wait for other servers, such as receivers of webhooks: each has a thread of its own, so that
Celery's pool goes on to the next at once.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from headrace_workers.core.log import Action

_PATIENCE: Final = 1.0  # seconds


class IoRuns:
    """Begins such runs, so many of a queue at a time. `most` is by the queue's name in Celery. Thread-safe.

    Work of the queues in `patient` waits a second for room: Celery's pool has little else to do, and work that is put
    back costs two transactions.
    """

    def __init__(self, most: Mapping[str, int], patient: Collection[str] = ()) -> None:
        self._patient = frozenset(patient)
        self._room = {queue: threading.BoundedSemaphore(count) for queue, count in most.items()}
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def takes(self, queue: str) -> bool:
        """Return True if what comes from this queue is run here."""
        return queue in self._room

    def begin(self, queue: str, work: Callable[[], None]) -> bool:
        """Begin this in a thread; False while as many run as may, or this machine has no thread left."""
        room = self._room[queue]
        if not room.acquire(timeout=_PATIENCE if queue in self._patient else 0):
            return False
        thread = threading.Thread(target=self._run, args=(room, work), daemon=True)
        with self._lock:  # nobody can wait for one that has not begun
            try:
                thread.start()
            except RuntimeError:
                room.release()
                return False
            self._threads.add(thread)
        return True

    def wait(self, seconds: float) -> None:
        """Wait so long for what runs, at most."""
        until = time.monotonic() + seconds
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self, room: threading.BoundedSemaphore, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # any error concerns this run alone
            logging.getLogger("headrace.beside").exception("a run failed", extra={"action": Action.STEP_FAILED})
        finally:
            room.release()
            with self._lock:
                self._threads.discard(threading.current_thread())
