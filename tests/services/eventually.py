"""Waiting for what comes about in another thread or process."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 120.0) -> T:
    """The condition's first true value; fails when none came in time. The bound is for hangs: it measures nothing."""
    began = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - began
        assert waited < seconds, f"not within {seconds:g} s: {getattr(condition, '__name__', condition)}"
        time.sleep(pause_after(waited))
    return value


def pause_after(waited: float) -> float:
    """Seconds to the next look, after so many of waiting: what takes long is not made longer by being looked at."""
    return min(0.1, 0.02 + waited / 50)
