"""A value that is built once, by the first caller that asks for it."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def once(build: Callable[[], T]) -> Callable[[], T]:
    """Return the same value each time, built by whoever asks first. What cannot be built is tried again.
    Thread-safe.
    """
    lock, built = threading.Lock(), list[T]()

    def get() -> T:
        with lock:
            if not built:
                built.append(build())
            return built[0]

    return get
