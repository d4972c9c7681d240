"""The numbered migrations of a ledger: files of SQL that each ledger runs once, in their order.

`migrations/0002_NAME.postgresql.sql` and `.sqlite.sql` are one migration. It only adds tables, columns with defaults,
and indexes, so that processes of the version before go on beside new ones. A later migration that removes something
says `-- oldest: N`: from then on the ledger takes only processes that know migration N.
"""

import re
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError

from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.core.sql.database import locks_rows, now_ms, reading, unhurried, writing
from headrace_workers.core.sql.database_errors import translated
from headrace_workers.core.tables import MIGRATIONS, STAMPS

FOLDER: Final = Path(__file__).parents[1] / "migrations"
_FILE: Final = re.compile(r"(\d{4})_(\w+)\.(postgresql|sqlite)\.sql")
_OLDEST: Final = re.compile(r"^-- oldest: (\d+)$", re.MULTILINE)
_TABLE: Final = re.compile(r"^(CREATE|DROP) TABLE (\w+)")
_CONCURRENT_INDEX: Final = re.compile(r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS (\w+) ")

_LOCK: Final = 0x6865616472616365 % 2**63  # "headrace": two processes that migrate take turns
_TURN_SECONDS: Final = 0.2
# A change of a table waits for the transactions that use it, and all later ones wait behind the change. It gives way
# after this time, before PostgreSQL looks for deadlocks (1 s), and tries again.
_LOCK_TIMEOUT: Final = "500ms"
_LOCK_TRIES: Final = 180
_LOCK_PAUSE: Final = 1.0  # s
_LOCKED: Final = frozenset({"55P03", "40P01"})  # not within the timeout; a deadlock

_REMEDY: Final = (
    "Use that version, or name a new database in HEADRACE_LEDGER (in Docker Compose: "
    "docs/how-to/adapt-the-compose-file.md#a-new-ledger)"
)
RUN: Final = "run `headrace init`, or `headrace ledger migrate`"


@dataclass(frozen=True, slots=True)
class Migration:
    """A numbered change of the tables in one database's SQL. `oldest`: processes that know no migration from this
    number on cannot use the ledger any more.
    """

    number: int
    name: str
    oldest: int
    statements: tuple[str, ...]


class _TablesInUse(Exception):
    """A change of a table did not get its lock in time."""


def migrations(dialect: str) -> tuple[Migration, ...]:
    """Return the migrations for a database, `postgresql` or `sqlite`, by their numbers."""
    return _migrations(dialect, FOLDER)


def known_version() -> int:
    """Return the version that a ledger has after all migrations that this process knows."""
    return migrations("sqlite")[-1].number


@cache
def _migrations(dialect: str, folder: Path) -> tuple[Migration, ...]:
    matches = (_FILE.fullmatch(path.name) for path in folder.iterdir())
    parts = sorted(match.groups() for match in matches if match is not None and match[3] == dialect)
    return tuple(_read(folder / f"{number}_{name}.{dialect}.sql", int(number), name) for number, name, dialect in parts)


def _read(path: Path, number: int, name: str) -> Migration:
    content = path.read_text(encoding="utf-8")
    oldest = _OLDEST.search(content)
    sql = "\n".join(line for line in content.splitlines() if not line.startswith("--"))
    statements = tuple(statement.strip() for statement in re.split(r";\s*$", sql, flags=re.MULTILINE))
    return Migration(number, name, int(oldest[1]) if oldest else 1, tuple(filter(None, statements)))


def tables_made(dialect: str) -> Set[str]:
    """Return the names of the tables that a ledger has after all migrations."""
    names: set[str] = set()
    for statement in (statement for migration in migrations(dialect) for statement in migration.statements):
        if match := _TABLE.match(statement):
            (names.add if match[1] == "CREATE" else names.discard)(match[2])
    return names


def check_version(tx: Connection) -> None:
    """Raise ConfigurationError unless this process can use the tables of the ledger: all its migrations were run, and
    no newer one has removed what it needs.
    """
    known = migrations(tx.dialect.name)
    applied = _applied(tx)
    if not applied:
        raise ConfigurationError(f"the ledger has no tables yet: {RUN}")
    if missing := [migration.number for migration in known if migration.number not in applied]:
        raise ConfigurationError(
            f"the ledger is at version {missing[0] - 1}, and this process needs version {known_version()}: {RUN} of "
            "this version. Processes of the version before may go on beside it"
        )


def _applied(tx: Connection) -> Set[int]:
    """Return the numbers of the migrations that the ledger has run. Raise ConfigurationError if it was made before
    migrations had numbers, or needs a newer process.
    """
    there = frozenset(inspect(tx).get_table_names())
    if MIGRATIONS.name not in there:
        if STAMPS.name in there or "alembic_version" in there:
            raise ConfigurationError(f"the ledger was made by an earlier version, before 0.2.0. {_REMEDY}")
        return frozenset()
    oldest = {row.number: row.oldest for row in tx.execute(select(MIGRATIONS.c.number, MIGRATIONS.c.oldest))}
    if (needed := max(oldest.values(), default=1)) > known_version():
        raise ConfigurationError(
            f"the ledger is at version {max(oldest)}, which takes processes that know version {needed}; this one knows "
            f"version {known_version()}: install the version of headrace that the other processes have"
        )
    return frozenset(oldest)


def run_migrations(engine: Engine, connection: Connection | None) -> None:
    """Run the migrations that the ledger lacks, each in one transaction, in `one_at_a_time`. A run that was killed is
    finished by the next.

    PostgreSQL makes an index beside running processes only outside of a transaction, on `connection`. A migration with
    such an index can be repeated, and is noted at its end.
    """
    with reading(engine) as tx:
        applied = _applied(tx)
    for migration in migrations(engine.dialect.name):
        if migration.number in applied:
            continue
        for statement in migration.statements:
            if connection is not None and (index := _CONCURRENT_INDEX.match(statement)):
                _make_index(connection, index[1], statement)
        _run_patiently(engine, migration)


def _run_patiently(engine: Engine, migration: Migration) -> None:
    for _ in range(_LOCK_TRIES):
        try:
            return _run(engine, migration)
        except _TablesInUse:
            time.sleep(_LOCK_PAUSE)
    raise Unavailable(
        "a table of the ledger is in use by another transaction, such as a backup, so that it cannot be changed now: "
        f"{RUN} again when that has ended"
    )


def _run(engine: Engine, migration: Migration) -> None:
    with writing(engine) as tx, unhurried(tx):
        if migration.number in _applied(tx):
            return  # another process was faster, on SQLite
        if locks_rows(tx):
            tx.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        try:
            for statement in migration.statements:
                if not _CONCURRENT_INDEX.match(statement):
                    _execute(tx, statement)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) in _LOCKED:
                raise _TablesInUse from None
            raise
        row = {"number": migration.number, "name": migration.name, "oldest": migration.oldest, "applied_at": now_ms()}
        tx.execute(insert(MIGRATIONS).values(row))


def _make_index(connection: Connection, name: str, statement: str) -> None:
    """Make an index. Drop it before if an earlier run left it unfinished."""
    with translated():
        unfinished = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid"
        if connection.execute(text(unfinished), {"name": name}).scalar():
            _execute(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        _execute(connection, statement)


def _execute(tx: Connection, statement: str) -> None:
    tx.execute(text(statement.replace(":", r"\:")))  # a colon would begin a parameter


@contextmanager
def one_at_a_time(engine: Engine) -> Iterator[Connection | None]:
    """Let no other process migrate the ledger in the body. SQLite has one writer at a time anyway.

    Yield the connection of PostgreSQL that holds the lock, which has no transaction and no time limit. While it waits
    it has no open statement: an index that is being made would wait for that.
    """
    if engine.dialect.name != "postgresql":
        yield None
        return
    with translated():
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        with translated():
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.connection.driver_connection.patience = float("inf")  # type: ignore[union-attr]
            while not connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK}).scalar():
                time.sleep(_TURN_SECONDS)
        yield connection
    finally:
        connection.invalidate()  # closing it ends the lock
        connection.close()
