"""New ledgers for tests, with their tables. One a process is migrated, and the others are its copies."""

import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from uuid import uuid4

from tests.services.eventually import eventually
from tests.services.postgres import PostgresServer

from headrace_workers.ledger.database import connect
from headrace_workers.ledger.migrate import migrate

_IDENTITY = "UPDATE identity SET id = '{}'"  # no two ledgers have the same


def sqlite_tables(file: Path) -> str:
    """A new ledger in this file; its URL."""
    file.write_bytes(_migrated())
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(_IDENTITY.format(uuid4()))
    return f"sqlite:///{file}"


def postgres_tables(server: PostgresServer, name: str) -> str:
    """A new ledger in a new database of this name; its URL."""
    import psycopg

    url = server.create_database(name, like=_template(server))
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(_IDENTITY.format(uuid4()))
    return url


@cache
def _migrated() -> bytes:
    """A file as a migration leaves it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        _migrate(f"sqlite:///{file}")
        return file.read_bytes()


@cache
def _template(server: PostgresServer) -> str:
    """A database as a migration leaves it, which nobody uses: else it could not be copied."""
    import psycopg

    name = f"tables_{uuid4().hex[:8]}"
    _migrate(server.create_database(name))
    with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        eventually(lambda: connection.execute(query, [name]).fetchone() == (0,))
    return name


def _migrate(url: str) -> None:
    engine = connect(url)
    migrate(engine)
    engine.dispose()
