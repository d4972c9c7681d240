"""Memory that an engine frees between two batches is kept for the next one, and handed back when the process rests.

glibc hands large blocks back to the kernel at once, and the kernel gives each page anew, emptied: on two cores that was
four times the page faults and 2 to 3 % of SmolLM2's time. So a process that computes keeps the most that it ever needed
at one time. One that has nothing to compute for a while needs none of it.
"""

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

# Of glibc's malloc.h. Any value also ends glibc's own adapting of it.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 32 * 1024**2  # bytes: glibc's own bound of the second
_NEVER = 2**31 - 1
# Seconds. What comes later takes its pages anew: of SmolLM2 that is 800 MiB at most, and half a second of one core.
REST: Final = 30.0


def keep_freed_memory() -> None:
    """Keep freed memory in this process. Does nothing where the C library is not glibc."""
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)


def hand_back() -> None:
    """Hand the kernel all that is free in this process. Does nothing where the C library is not glibc."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


class Resting:
    """Calls `then` once whenever nothing has been `busy` for so many seconds, in a thread of its own. Thread-safe."""

    def __init__(self, then: Callable[[], object] = hand_back, seconds: float = REST) -> None:
        self._then = then
        self._seconds = seconds
        self._changed = threading.Condition()
        self._busy = 0
        self._begun = 0  # how often
        self._thread: threading.Thread | None = None

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Something is computed in this block."""
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
        """When nothing is busy, and more than `told` runs have begun: how many, if no other does for so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._begun != told and not self._busy)
            begun = self._begun
            again = self._changed.wait_for(lambda: self._begun != begun, self._seconds)
            return None if again else begun


RESTING: Final = Resting()  # of this process: its memory is one


def _of_glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None)
