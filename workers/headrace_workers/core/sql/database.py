"""Connections to the ledger's database, SQLite or PostgreSQL by URL, and what differs between the two."""

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    any_,
    bindparam,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.private_files import close_file, opened_privately
from headrace_workers.core.sql.database_errors import leads_elsewhere, translated

# Seconds that one statement may take, and how long SQLite waits for another process's write. `?timeout=` in the URL
# says otherwise.
STATEMENT_SECONDS = 10.0
# Extra time for the server to end the statement itself, before we take it for gone.
_GRACE_SECONDS = 2.0
_TELL, _CALLBACK = "headrace_tell", "headrace_told"
_LAST = "headrace_last"

# Plans are kept with a connection, and those made while the tables are new would read them from end to end until the
# next ANALYZE. Every query of the hot path has an index; the few that count all rows still may.
# A process that was frozen in a transaction must not keep its rows from the others for ever.
_POSTGRESQL_OPTIONS = (
    "-c enable_seqscan=off -c jit=off -c statement_timeout={limit}ms -c idle_in_transaction_session_timeout={limit}ms"
)
# The parameters of libpq that bound a way to the server that is half open. The URL may say otherwise.
_POSTGRESQL_DEFAULTS = {
    "connect_timeout": "5",  # s, for each address
    "tcp_user_timeout": "10000",  # ms that what was sent may stay unacknowledged
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
}


class now_ms(FunctionElement[int]):
    """The database's own clock in milliseconds since 1970. No other clock decides about leases and deadlines."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "postgresql")
def _now_postgresql(_element: Any, _compiler: Any, **_: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"


@compiles(now_ms, "sqlite")
def _now_sqlite(_element: Any, _compiler: Any, **_: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)"


def parsed_url(url: str | URL) -> URL:
    """Return the parts of a ledger's URL. Raise ConfigurationError if it is not the URL of a database."""
    try:
        return make_url(url)
    except ArgumentError as error:
        raise ConfigurationError(
            "HEADRACE_LEDGER is no database URL: use sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE"
        ) from error


def connect(url: str | URL, *, durable: bool = True) -> Engine:
    """Return an engine for the ledger at this URL; ConfigurationError when the URL is none that we can use.

    `durable=False` is for transactions whose loss in a crash of the database changes nothing that was promised: they
    need not wait for its disk.
    """
    parsed = parsed_url(url)
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed, durable)
    if parsed.drivername == "postgresql+psycopg":
        return _postgresql(parsed, durable)
    raise ConfigurationError(f"HEADRACE_LEDGER names the database {parsed.drivername!r}; use sqlite or postgresql")


def lose_together(*engines: Engine) -> None:
    """Open the connections of all these engines anew when one of them loses its connection.

    Else a thread that uses two of them would find out twice, each time by waiting until its patience ends.
    """

    def listen(engine: Engine) -> None:
        @event.listens_for(engine, "handle_error")
        def _lost(context: ExceptionContext) -> None:
            if context.is_disconnect:
                for other in engines:
                    if other is not engine:
                        other.dispose()

    for engine in engines:
        listen(engine)


def _limit_of(url: URL) -> float:
    """Return the seconds that a statement may take, by the URL's `timeout`."""
    wanted = url.query.get("timeout", str(STATEMENT_SECONDS))
    try:
        limit = float(wanted)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        limit = 0.0
    if not 0 < limit < 86_400:
        raise ConfigurationError(f"HEADRACE_LEDGER: timeout is {wanted!r}; it must be seconds, above 0 and below a day")
    return limit


def _postgresql(url: URL, durable: bool) -> Engine:
    from psycopg.types.array import ListBinaryDumper

    from headrace_workers.core.sql.patience import BoundedConnection

    limit = _limit_of(url)
    url = url.difference_update_query(["timeout"])
    options = _POSTGRESQL_OPTIONS.format(limit=int(limit * 1000)) + ("" if durable else " -c synchronous_commit=off")
    theirs = url.query.get("options", "")
    engine = create_engine(
        url,
        pool_size=4,
        max_overflow=8,
        pool_recycle=1800,
        pool_timeout=limit,
        pool_use_lifo=True,  # the connection that was used last has its statements prepared
        hide_parameters=True,  # they are users' texts
        connect_args={
            **{name: value for name, value in _POSTGRESQL_DEFAULTS.items() if name not in url.query},
            "options": f"{options} {theirs}",
        },
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, args: Any, parameters: Any) -> Any:
        connection = BoundedConnection.connect(*args, **parameters)
        connection.patience = limit + min(limit, _GRACE_SECONDS)
        # As text each value of an array is quoted by Python: 50 µs a kilobyte.
        connection.adapters.register_dumper(list, ListBinaryDumper)
        return connection

    @event.listens_for(engine, "handle_error")
    def _leave(context: ExceptionContext) -> None:
        if leads_elsewhere(context.original_exception):
            context.is_disconnect = True

    return engine


def _sqlite(url: URL, durable: bool) -> Engine:
    limit = _limit_of(url)
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": limit, "check_same_thread": False})

    @event.listens_for(engine, "do_connect")
    def _private(*_: Any) -> None:
        """Give the file a private mode, since it holds prompts and secrets. SQLite gives its companion files the same
        mode.
        """
        file = url.database
        if not file or file.startswith((":memory:", "file:")):
            return
        # One that is there is not opened: to close it would release the locks of this process's other connections, and
        # SQLite would answer them with disk I/O errors (https://sqlite.org/howtocorrupt.html, 2.2).
        with suppress(OSError):  # it is there; of anything else SQLite says better what is wrong
            os.close(opened_privately(file, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        for text in (file, f"{file}-wal", f"{file}-shm"):
            close_file(Path(text))

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we begin transactions ourselves
        # In the write-ahead log NORMAL may forget the last transactions at a power cut.
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        _use_wal(connection)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that begins by reading and then writes may fail with "database is locked" at once.
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _use_wal(connection: Any) -> None:
    """Switch to the write-ahead log. The first switch of a new file does not wait for other processes by itself."""
    for _ in range(100):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            time.sleep(0.05)
    connection.execute("PRAGMA journal_mode=WAL")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Run one transaction that may write. Transient errors, such as a lost connection or a full disk, become
    `Unavailable`.

    The callback of `listen` is called when it has been committed, where `tell` was called in it.
    """
    with translated(), engine.begin() as connection:
        connection.info.pop(_TELL, None)  # of one that was rolled back
        connection.info.pop(_LAST, None)
        yield connection
        do_last(connection)
        tells = connection.info.pop(_TELL, False)
    if tells and (callback := engine.get_execution_options().get(_CALLBACK)) is not None:
        callback()


def listen(engine: Engine, callback: Callable[[], object]) -> None:
    """Call this after each transaction of `writing` in which `tell` was called, on its thread."""
    engine.update_execution_options(**{_CALLBACK: callback})


def tell(connection: Connection) -> None:
    """Wake the followers of what this transaction writes, once it has been committed."""
    connection.info[_TELL] = True


def last(connection: Connection, act: Callable[..., object], arguments: Mapping[Any, Any]) -> None:
    """Call `act` with the connection and all its arguments, at the end of this transaction: its locks come after all
    others, and in one order.
    """
    acts: dict[Callable[..., object], dict[Any, Any]] = connection.info.setdefault(_LAST, {})
    acts.setdefault(act, {}).update(arguments)


def do_last(connection: Connection) -> None:
    """Do now what was put off to the end."""
    for act, arguments in connection.info.pop(_LAST, {}).items():
        act(connection, arguments)


@contextmanager
def unhurried(connection: Connection) -> Iterator[None]:
    """Run the body without a time limit, for migrations: the person who starts those can stop them."""
    if not locks_rows(connection):
        yield
        return
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    driver: Any = connection.connection.driver_connection
    patience, driver.patience = driver.patience, float("inf")
    try:
        yield
    finally:
        driver.patience = patience


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Run a transaction that only reads: each statement sees what was committed before it; on SQLite all see the
    same.
    """
    # BEGIN and COMMIT would be two more round trips, and PostgreSQL gives each statement a snapshot of its own anyway.
    options = {"isolation_level": "AUTOCOMMIT"} if engine.dialect.name == "postgresql" else {"reading": True}
    with translated(), engine.connect().execution_options(**options) as connection:
        yield connection


def clock(connection: Connection) -> int:
    """Return the time by the database's clock, in ms since 1970."""
    return int(connection.execute(select(now_ms())).scalar_one())


def insert(where: Connection | str, table: Any) -> Any:
    """Return an INSERT that knows ON CONFLICT, in the dialect of a connection or of this name."""
    name = where if isinstance(where, str) else where.dialect.name
    return (postgresql if name == "postgresql" else sqlite).insert(table)


def insert_many(dialect: str, table: Any, columns: Sequence[Any], constants: Mapping[str, Any]) -> Any:
    """Return an INSERT of many rows that may say what it did; `many` makes its parameters. `constants` are every row's.

    On PostgreSQL each column comes as an array: a statement that grew by the row would be parsed anew each time, which
    costs more than running it.
    """
    if dialect != "postgresql":
        return insert(dialect, table).values(
            {column.name: bindparam(column.name) for column in columns} | dict(constants)
        )
    rows = (
        func.unnest(*(bindparam_of(dialect, column, name=column.name) for column in columns))
        .table_valued(*(column.name for column in columns))
        .render_derived()
    )
    names = [*(column.name for column in columns), *constants]
    return insert(dialect, table).from_select(names, select(*rows.c, *constants.values()))


def many(dialect: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows, at least one, as `insert_many` takes them."""
    return {name: [row[name] for row in rows] for name in rows[0]} if dialect == "postgresql" else rows


def among(connection: Connection, column: Any, values: Collection[Any]) -> ColumnElement[bool]:
    """Return the condition that `column` is one of `values`."""
    return one_of(connection.dialect.name, column, bindparam_of(connection.dialect.name, column, list(values)))


def one_of(dialect: str, column: Any, parameter: Any) -> ColumnElement[bool]:
    """Return the condition that `column` is one of a parameter's values: an array on PostgreSQL, so that the statement
    is the same for any number.
    """
    return column == any_(parameter) if dialect == "postgresql" else column.in_(parameter)  # type: ignore[no-any-return]


def bindparam_of(dialect: str, column: Any, values: list[Any] | None = None, name: str | None = None) -> Any:
    """Return a parameter that holds many values of a column's type."""
    if dialect == "postgresql":
        return bindparam(name, values, type_=postgresql.ARRAY(column.type), required=values is None)
    return bindparam(name, values, type_=column.type, expanding=True, required=values is None)


def alone(connection: Connection, what: str) -> None:
    """Wait until no other transaction is at `what`, and let none begin with it until this one ends. It is for what is
    counted before a row is written: there is no row yet that could be locked. SQLite has one writer at a time anyway.
    """
    if locks_rows(connection):
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(what, 0))))


def locks_rows(connection: Connection) -> bool:
    """Return True if rows can be locked (PostgreSQL); SQLite's write transaction locks the whole file instead.

    Where a query is the same without a lock nobody need ask: SQLAlchemy leaves FOR UPDATE out for SQLite.
    """
    return connection.dialect.name == "postgresql"
