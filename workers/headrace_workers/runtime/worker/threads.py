"""Celery's pool of threads, which tells the worker's loop when one of them is free.

Without prefetching, the loop asks Redis for the next message only when it turns, and a thread that ends does not turn
it: the worker would sleep until its next timer, with work waiting.
"""

from typing import Any

from celery.concurrency.thread import TaskPool
from kombu.asynchronous import get_event_loop


class WakingThreads(TaskPool):  # type: ignore[misc]
    """Pool of threads that wakes the worker's loop at the end of every task."""

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        """Hand a task to a thread."""
        result = super().on_apply(*args, **kwargs)
        result.f.add_done_callback(_wake)
        return result


def _wake(_future: object) -> None:
    loop = get_event_loop()
    if loop is not None:
        loop.call_soon(_nothing)


def _nothing() -> None:
    """Do nothing: the loop is woken for its own next turn."""
