"""Celery's consumer, which outlives its connections to Redis, and tells of its progress.

The pool and its model stay through every outage of Redis: a model is loaded once.
"""

import logging
import warnings
from typing import Any, Final

from celery.worker.consumer import Consumer
from celery.worker.consumer import consumer as module
from celery.worker.state import maybe_shutdown
from kombu.asynchronous import set_event_loop

from headrace_workers.core.outage import awaited
from headrace_workers.core.progress import Loop

_FIRST_PAUSE: Final = 0.2  # seconds, and so much longer each time
_LONGEST_PAUSE: Final = 2.0


def consumer_that_tells(loop: Loop) -> type[Consumer]:
    """Return a class of consumer that reports its turns to this loop."""
    return type("TellingConsumer", (_Consumer,), {"progress": loop})


class _Consumer(Consumer):  # type: ignore[misc]
    progress: Loop
    of_connection: frozenset[Any] | set[Any] = frozenset()  # what is called at each turn for the connection's sake

    def connect(self) -> Any:
        """Connect for reading, however long it takes."""
        if self.hub is None:
            return super().connect()
        # Celery leaves the callbacks of earlier connections there: they would go on to read from what is dead.
        self.hub.on_tick -= self.of_connection
        others = set(self.hub.on_tick)
        connection = super().connect()
        self.of_connection = self.hub.on_tick - others
        return connection

    def ensure_connected(self, conn: Any) -> Any:
        """Try again until Redis answers, or the worker is to stop."""

        def tell(error: BaseException, _pause: float) -> None:
            self.progress.beat(awaited(error))

        conn.ensure_connection(
            tell,
            interval_start=_FIRST_PAUSE,
            interval_step=_FIRST_PAUSE,
            interval_max=_LONGEST_PAUSE,
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        return conn

    def register_with_event_loop(self, hub: Any) -> None:
        """Begin the turn of a new connection."""
        super().register_with_event_loop(hub)
        hub.on_tick.add(self.progress.beat)
        set_event_loop(hub)  # forgotten when a connection is lost; threads.py asks for it

    def on_connection_error_before_connected(self, exc: BaseException) -> None:
        """Do nothing: the outage is reported as progress, and not logged."""
        self.progress.beat(awaited(exc))

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        """Put the dead connection away."""
        self.progress.beat(awaited(exc))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns each time of a default that may change, and that is set here
            super().on_connection_error_after_connected(exc)


def _is_news(record: logging.LogRecord) -> bool:
    # progress.py logs the state of a connection once, and not at every try.
    return module.CONNECTION_RETRY not in (record.msg, *(record.args or ()))


logging.getLogger(module.__name__).addFilter(_is_news)
