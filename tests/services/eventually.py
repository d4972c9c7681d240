"""Waiting for what comes about in another thread or process."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 120.0) -> T:
    """The condition's first true value; fails when none came in time. The bound is for hangs: it measures nothing."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"not within {seconds:g} s: {getattr(condition, '__name__', condition)}"
        time.sleep(0.02)
    return value
