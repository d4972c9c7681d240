"""What makes databases fast in tests: compiled SQL is shared, and SQLite does not wait for the disk.

An engine compiles each statement once, and nearly every test opens engines of its own: without this, compiling takes a
quarter of the time of such tests. SQLite's files need no disk, since no test cuts the power: a killed process loses
nothing that the system has.
"""

from typing import Any, Final

from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

_COMPILED: Final[LRUCache[Any, Any]] = LRUCache(4000)
_PREPARED: Final = "tests_prepared"


def make_fast() -> None:
    """Let engines of this process use each other's compiled statements, and SQLite not wait for the disk."""
    # The dialect is a part of a statement's key. All of one class are alike here: `connect` makes every one, and each
    # PostgreSQL is of one version.
    for kind in (PGDialect_psycopg, SQLiteDialect_pysqlite):
        kind.__eq__ = _same_class  # type: ignore[method-assign, assignment]
        kind.__hash__ = _hash_of_class  # type: ignore[method-assign, assignment]
    event.listen(Engine, "engine_connect", _prepare)


def _prepare(connection: Connection) -> None:
    connection.execution_options(compiled_cache=_COMPILED)
    if connection.dialect.name == "sqlite" and _PREPARED not in connection.info:
        connection.info[_PREPARED] = True
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA synchronous=OFF")


def _same_class(dialect: object, other: object) -> bool:
    return type(dialect) is type(other)


def _hash_of_class(dialect: object) -> int:
    return hash(type(dialect))
