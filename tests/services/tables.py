"""New ledgers for tests, with their tables. They are made once a process, and then copied."""

import sqlite3
import tempfile
from collections import defaultdict
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

import psycopg
from tests.services.eventually import eventually
from tests.services.postgres import PostgresServer

from headrace_workers.core.migrate import migrate
from headrace_workers.core.sql.database import connect

_SPARE: defaultdict[PostgresServer, list[str]] = defaultdict(list)
_OPEN: dict[PostgresServer, psycopg.Connection] = {}
_USED = """
    SELECT quote_ident(relname), pg_relation_size(oid) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND pg_relation_size(oid) > 0
    AND relname NOT IN ('migrations', 'identity')
"""
# To truncate a table makes new files for it and for each of its indexes: as long as it takes to delete very many rows.
_SMALL = 2**19  # bytes of a table
_AS_NEW = "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'"
_IDENTITY = "UPDATE identity SET id = '{}'"  # no two ledgers have the same


def sqlite_tables(file: Path) -> str:
    """A new ledger in this file; its URL."""
    content, identity = _migrated()
    file.write_bytes(content.replace(identity, str(uuid4()).encode()))
    return f"sqlite:///{file}"


def postgres_tables(server: PostgresServer, name: str) -> str:
    """A new ledger in a database of this name; its URL. It may be one that was given back."""
    spare = _SPARE[server]
    reused = bool(spare) and _renamed(_administrator(server), spare.pop(), name)
    if not reused:
        server.create_database(name, like=_template(server))
    with _opened(server.url_of(name)) as connection:
        if reused:
            _empty(connection)
        connection.execute(_IDENTITY.format(uuid4()))
    return server.url_of(name)


def give_back(server: PostgresServer, name: str) -> None:
    """Nobody needs this database any more, and its tables are as they were: a copy costs eight times as much."""
    _SPARE[server].append(name)


def _renamed(connection: psycopg.Connection, old: str, name: str) -> bool:
    """Take a database's name from who may still know it; False where somebody is in it."""
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [old])
    _wait_until_unused(connection, old)
    try:
        connection.execute(f'ALTER DATABASE "{old}" RENAME TO "{name}"')
    except psycopg.errors.ObjectInUse:
        return False
    return True


def _empty(connection: psycopg.Connection) -> None:
    used = connection.execute(_USED).fetchall()
    if large := [table for table, size in used if size > _SMALL]:
        connection.execute(f"TRUNCATE {', '.join(large)}")
    connection.execute(";".join(f"DELETE FROM {table}" for table, size in used if size <= _SMALL))
    connection.execute(_AS_NEW)


def _administrator(server: PostgresServer) -> psycopg.Connection:
    """Return a connection that stays open: a server starts a process for each, which costs more than what is asked."""
    with suppress(KeyError, psycopg.OperationalError):  # none yet, or the server was killed since
        _OPEN[server].execute("SELECT 1")
        return _OPEN[server]
    _OPEN[server] = _opened(server.url)
    return _OPEN[server]


@cache
def _migrated() -> tuple[bytes, bytes]:
    """A file as a migration leaves it, and the id of its ledger, which stands in it as text."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        _migrate(f"sqlite:///{file}")
        with closing(sqlite3.connect(file)) as connection:
            (identity,) = connection.execute("SELECT id FROM identity").fetchone()
        return file.read_bytes(), identity.encode()


@cache
def _template(server: PostgresServer) -> str:
    """A database as a migration leaves it, which nobody uses: else it could not be copied."""
    name = f"tables_{uuid4().hex[:8]}"
    _migrate(server.create_database(name))
    with _opened(server.url) as connection:
        _wait_until_unused(connection, name)
    return name


def _migrate(url: str) -> None:
    engine = connect(url)
    migrate(engine)
    engine.dispose()


def _opened(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def _wait_until_unused(connection: psycopg.Connection, name: str) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    eventually(lambda: connection.execute(query, [name]).fetchone() == (0,))
