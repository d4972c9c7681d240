"""Statements of the hot path: SQLAlchemy builds them, and on PostgreSQL the driver itself runs them.

SQLAlchemy takes 80 to 120 µs of CPU to run a statement, of which the driver's part is 40, and an interactive job waits
for fifteen of them. If something listens to statements, as tracing does, SQLAlchemy runs these too.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.psycopg import dialect
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

from headrace_workers.core.sql.database_errors import leads_elsewhere

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
