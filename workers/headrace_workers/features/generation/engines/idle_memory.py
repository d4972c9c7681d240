"""Hands back the memory that a process kept for its next batch, once it has had nothing to compute for a while."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from headrace_workers.core.memory import hand_back

# Seconds. What comes later takes its pages anew: of SmolLM2 that is 800 MiB at most, and half a second of one core.
REST: Final = 30.0


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
