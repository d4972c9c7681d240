"""Values that are not built or read each time: built once by the first caller, or believed for a moment."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T")


def once(build: Callable[[], T]) -> Callable[[], T]:
    """Return a value that the first caller builds; later callers get the same. If building fails, the next caller tries
    again. Thread-safe.
    """
    lock, built = threading.Lock(), list[T]()

    def get() -> T:
        with lock:
            if not built:
                built.append(build())
            return built[0]

    return get


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_MOST: Final = 10_000  # values that are kept


class RecentReads(Generic[K, V]):
    """Values that `read(key)` returned at most `seconds` ago. Thread-safe. Errors of `read` are not kept."""

    def __init__(
        self, read: Callable[[K], V], seconds: float, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._monotonic = monotonic
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, key: K) -> V:
        """Return the value of a key, read anew where it is too old."""
        began = self._monotonic()
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and began - kept[0] < self._seconds:
            return kept[1]
        value = self._read(key)
        with self._lock:
            self._kept[key] = began, value
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        return value
