"""Statements of the hot path that stand alone, mostly reads: a look-up waits for one, and that is all it does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import Dialect, ExceptionContext

from headrace_schemas.errors import Unavailable
from headrace_workers.core.sql.database import STATEMENT_SECONDS, reading, writing
from headrace_workers.core.sql.database_errors import translated
from headrace_workers.core.sql.driver_statements import Parameters, Rows, as_sqlalchemy, as_text, is_gone, run

_KEPT: Final = 4  # connections that are open while nobody uses them
_MOST: Final = 12  # and at once, as many as the pool of an engine has
_IDLE: Final = 0  # psycopg's TransactionStatus.IDLE, which is not loaded where there is no PostgreSQL


class SingleStatements:
    """Statements that run one at a time, each in no transaction. Thread-safe; not to be carried over a fork (call
    `close` in the parent before).

    On PostgreSQL they have connections of their own, a bounded number: borrowing one from SQLAlchemy's pool costs twice
    as much as a short read. These connections are opened as the engine's are, and have the same time limit. When the
    engine drops its connections, these are dropped too, since they lead to the same server.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: list[Any] = []
        self._room = threading.BoundedSemaphore(_MOST)
        event.listen(engine, "engine_disposed", self._disposed)
        event.listen(engine, "handle_error", self._lost)

    @property
    def dialect(self) -> Dialect:
        """Return the name of the database's dialect."""
        return self._engine.dialect

    def rows(self, statement: Any, parameters: Parameters) -> Rows:
        """Run a statement that is built once and kept; return its rows, if any. Unavailable when the database does not
        answer.

        On SQLite it must be a query: see `writing`.
        """
        if self.dialect.name != "postgresql" or self._engine.dispatch.before_cursor_execute:
            with reading(self._engine) as connection:
                return run(connection, statement, parameters)
        if not self._room.acquire(timeout=STATEMENT_SECONDS):
            raise Unavailable(f"the ledger did not answer: {_MOST} statements are waiting for it")
        try:
            return self._run(*as_text(statement, parameters))
        finally:
            self._room.release()

    @contextmanager
    def writing(self) -> Iterator[Self | Connection]:
        """Run the body's one write: alone on PostgreSQL, in a transaction on SQLite, which locks the file for it."""
        if self.dialect.name == "postgresql":
            yield self
            return
        with writing(self._engine) as connection:
            yield connection

    def close(self) -> None:
        """Close the idle connections; a connection in use is closed when it comes back."""
        left, self._kept = self._kept, []
        while (driver := _taken(left)) is not None:
            driver.close()

    def _run(self, text: str, parameters: Parameters) -> Rows:
        import psycopg

        kept = self._kept
        driver = None
        try:
            driver = _taken(kept) or self._opened()
            cursor = driver.execute(text, parameters, binary=True)
            return cursor.fetchall() if cursor.description else ()
        except psycopg.Error as error:
            gone = driver is not None and is_gone(driver, error)
            if gone:
                self._engine.dispose()
            with translated():
                raise as_sqlalchemy(self.dialect, text, error, gone=gone) from None
        finally:
            if driver is not None:
                self._keep(driver, kept)

    def _opened(self) -> Any:
        """Open a connection of our own, outside the pool."""
        with translated():
            pooled = self._engine.raw_connection()
        driver: Any = pooled.driver_connection
        pooled.detach()
        driver.autocommit = True
        return driver

    def _keep(self, driver: Any, kept: list[Any]) -> None:
        """Keep the connection for the next statement, unless its statement was broken off, or the kept connections were
        given up meanwhile.
        """
        idle = driver.pgconn.transaction_status == _IDLE
        if idle and kept is self._kept and len(kept) < _KEPT:
            kept.append(driver)
        else:
            driver.close()

    def _disposed(self, _engine: Engine) -> None:
        self.close()

    def _lost(self, context: ExceptionContext) -> None:
        if context.is_disconnect:
            self.close()


def _taken(kept: list[Any]) -> Any:
    """Return one of these, which others may take at the same moment; None if there is none."""
    try:
        return kept.pop()
    except IndexError:
        return None


def rows_of(where: Connection | SingleStatements, statement: Any, parameters: Parameters) -> Rows:
    """Run a statement that is built once and kept: alone, or within the transaction that runs. Return its rows."""
    if isinstance(where, SingleStatements):
        return where.rows(statement, parameters)
    return run(where, statement, parameters)
