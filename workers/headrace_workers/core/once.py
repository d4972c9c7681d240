"""A value that is built once, by the first caller that asks for it."""

import threading
from collections.abc import Callable
from typing import TypeVar

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
