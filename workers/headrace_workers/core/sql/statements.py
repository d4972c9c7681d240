"""Statements of the hot path: SQLAlchemy builds them, and on PostgreSQL the driver itself runs them.

SQLAlchemy takes 80 to 120 µs of CPU to run a statement, of which the driver's part is 40, and an interactive job waits
for fifteen of them. If something listens to statements, as tracing does, SQLAlchemy runs these too.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, Self

from sqlalchemy import Connection, Engine, Table, event
from sqlalchemy.dialects.postgresql.psycopg import dialect
from sqlalchemy.engine import Dialect, ExceptionContext
from sqlalchemy.exc import DBAPIError

from headrace_schemas.errors import Unavailable
from headrace_workers.core.sql.database import STATEMENT_SECONDS, reading, writing
from headrace_workers.core.sql.database_errors import leads_elsewhere, translated

_dialect: Any = dialect()  # type: ignore[no-untyped-call]

Parameters = Mapping[str, Any]
Rows = Sequence[tuple[Any, ...]]


def run(connection: Connection, statement: Any, parameters: Parameters | Sequence[Parameters]) -> Rows:
    """Run a statement that is built once and kept, with parameters once or with each of several; its rows, if any."""
    once = parameters if isinstance(parameters, Mapping) else parameters[0] if len(parameters) == 1 else None
    if once is None or connection.dialect.name != "postgresql" or connection.dispatch.before_cursor_execute:
        result = connection.execute(statement, parameters)
        return result.all() if result.returns_rows else ()
    return run_text(connection, *as_text(statement, once))


def as_text(statement: Any, parameters: Parameters) -> tuple[str, Parameters]:
    """Return a statement that is built once and kept, in psycopg's own words, and all its parameters."""
    text, constants = _compiled(statement)
    return text, {**constants, **parameters} if constants else parameters


def run_text(connection: Connection, text: str, parameters: Parameters | Sequence[Any]) -> Rows:
    """Run a statement in psycopg's own words, on PostgreSQL."""
    import psycopg

    driver: Any = connection.connection.driver_connection
    try:
        cursor = driver.execute(text, parameters)
        return cursor.fetchall() if cursor.description else ()
    except psycopg.Error as error:
        raise failed(connection, text, error) from None


def failed(connection: Connection, text: str, error: Exception) -> DBAPIError:
    """Return the driver's error as SQLAlchemy would raise it. A lost connection is given up, and so are the others to
    the same server.
    """
    gone = is_gone(connection.connection.driver_connection, error)
    if gone:
        connection.invalidate()
        connection.engine.dispose()
    return as_sqlalchemy(connection.dialect, text, error, gone=gone)


def is_gone(driver: Any, error: Exception) -> bool:
    """Return True if a connection of the driver's is lost, or leads to a server that we cannot use."""
    return bool(driver.broken or driver.closed or leads_elsewhere(error))


def as_sqlalchemy(of: Dialect, text: str, error: Exception, *, gone: bool) -> DBAPIError:
    """Return the driver's error as SQLAlchemy would raise it."""
    import psycopg

    wrapped = DBAPIError.instance(
        text, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=gone, dialect=of
    )
    assert isinstance(wrapped, DBAPIError)  # noqa: S101 - it is of what psycopg raises
    return wrapped


@lru_cache(maxsize=256)
def _compiled(statement: Any) -> tuple[str, dict[str, Any]]:
    """Return its text, and the parameters that are the same each time."""
    compiled = statement.compile(dialect=_dialect)
    constants = {name: bound.value for bound, name in compiled.bind_names.items() if not bound.required}
    return str(compiled), constants


_FEW = 3  # rows


def append(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Write new rows, all with the same columns. None may be there already."""
    if not rows:
        return
    if connection.dialect.name != "postgresql":
        connection.execute(table.insert(), rows)
    elif len(rows) <= _FEW:
        names = tuple(rows[0])
        values = [row[name] for row in rows for name in names]
        run_text(connection, _insert(table.name, names, len(rows)), values)
    else:
        _copy(connection, table, rows)


@lru_cache
def _insert(table: str, names: tuple[str, ...], count: int) -> str:
    row = f"({', '.join(['%s'] * len(names))})"
    return f"INSERT INTO {table} ({_quoted(names)}) VALUES {', '.join([row] * count)}"  # noqa: S608 - our own names


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)  # some are words of SQL


def _copy(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    import psycopg

    names = list(rows[0])
    statement = f"COPY {table.name} ({_quoted(names)}) FROM STDIN"
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row([row[name] for name in names])
    except psycopg.Error as error:
        raise failed(connection, statement, error) from None


# Statements of the hot path that stand alone, mostly reads: a look-up waits for one, and that is all it does.

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
