"""PostgreSQL connections that wait for an answer only so long, by our own clock.

The server's `statement_timeout` does not reach us when the server or the way to it is frozen, and TCP's own limits do
not help behind a proxy that still acknowledges. So the wait for the socket is what is bounded: psycopg does all its
waiting in one method, and wakes from it ten times a second anyway.
"""

import time
from collections.abc import Generator
from typing import Any

import psycopg


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server has said nothing for `patience` seconds; OperationalError then."""

    patience: float = 15.0

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait for the server, as psycopg does, and no longer."""
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        until = time.monotonic() + self.patience
        try:
            ready_for = next(gen)
            while True:
                ready_for = gen.send((yield ready_for))
                if time.monotonic() > until:
                    break
        except StopIteration as end:
            return end.value
        self.pgconn.finish()
        raise psycopg.OperationalError(f"no answer for {self.patience:g} s: the connection is closed")
