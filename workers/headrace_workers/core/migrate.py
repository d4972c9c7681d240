"""The tables of a ledger: headrace's own by numbered migrations (migrations.py). Tables of other features are made
where they are missing, and stamped with a digest of their definition: such a table does not change in place.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256

from sqlalchemy import Connection, Engine, Index, Table, inspect, select
from sqlalchemy.schema import sort_tables

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.feature import installed
from headrace_workers.core.ledger.ledger import Deployment, Fact
from headrace_workers.core.migrations import RUN, check_version, one_at_a_time, run_migrations, tables_made
from headrace_workers.core.sql.database import connect, reading, unhurried, writing
from headrace_workers.core.sql.database_errors import NotAdmitted
from headrace_workers.core.tables import METADATA, STAMPS


def migrate(engine: Engine) -> int:
    """Bring the tables of the ledger up to date, whichever process comes first. Return how many this version has.

    Raise ConfigurationError if the server does not admit us, or if the ledger cannot be brought up to date.
    """
    tables = headrace_tables()
    with _at_start(), one_at_a_time(engine) as connection:
        run_migrations(engine, connection)
        with writing(engine) as tx, unhurried(tx):
            missing = _missing(tx, tables)
            for table in sort_tables(missing):
                table.create(tx)
                tx.execute(STAMPS.insert().values(name=table.name, digest=_digest(table)))
    return len(tables)


def has_tables(engine: Engine) -> bool:
    """Return True if the tables of a ledger are there."""
    with reading(engine) as tx:
        return inspect(tx).has_table(STAMPS.name)


def require_current(engine: Engine) -> None:
    """Raise ConfigurationError unless the server admits us and the ledger has the tables that this code needs."""
    with _at_start(), reading(engine) as tx:
        check_version(tx)
        missing = _missing(tx, headrace_tables())
    if missing:
        raise ConfigurationError(f"the ledger lacks the tables {', '.join(table.name for table in missing)}: {RUN}")


def headrace_tables() -> list[Table]:
    """Return all tables of this version: those of the core first, then those of features."""
    of_features = [table for feature in installed() for table in feature.tables()]
    return list(dict.fromkeys((*METADATA.tables.values(), *of_features)))


def _missing(tx: Connection, tables: Iterable[Table]) -> list[Table]:
    """Return the tables that no migration makes and that the ledger never had. Raise ConfigurationError for a table
    that was lost, since an empty one in its place would hide the loss, or that a feature defined otherwise before.
    """
    there = frozenset(inspect(tx).get_table_names())
    stamps = {row.name: row.digest for row in tx.execute(select(STAMPS))} if STAMPS.name in there else {}
    made = tables_made(tx.dialect.name) | stamps.keys()
    if lost := sorted(table.name for table in tables if table.name in made and table.name not in there):
        raise ConfigurationError(f"the ledger has lost the tables {', '.join(lost)}: restore it from a backup")
    if others := sorted(table.name for table in tables if stamps.get(table.name, _digest(table)) != _digest(table)):
        raise ConfigurationError(
            f"the ledger's table {others[0]} was made by another version of its feature: use that version, or a new "
            "database in HEADRACE_LEDGER"
        )
    return [table for table in tables if table.name not in there]


@cache
def _digest(table: Table) -> str:
    """Return a digest of a table's definition, which no version of a library changes."""
    lines = [
        f"{column.name} {type(column.type).__name__} {getattr(column.type, 'length', None)} {column.nullable} "
        f"{column.primary_key} {_words(column.server_default)}"
        for column in table.columns
    ]
    return sha256("\n".join([*lines, *sorted(map(_of_index, table.indexes))]).encode()).hexdigest()[:12]


def _of_index(index: Index) -> str:
    where = {str(condition) for name, condition in index.dialect_kwargs.items() if name.endswith("_where")}
    return f"{index.name} {index.unique} {[str(expression) for expression in index.expressions]} {sorted(where)}"


def _words(default: object) -> str:
    return str(getattr(default, "arg", default))


@contextmanager
def _at_start() -> Iterator[None]:
    """Raise ConfigurationError if the server does not admit us: before a process has begun, a person can mend that."""
    try:
        yield
    except NotAdmitted as error:
        raise ConfigurationError(str(error)) from None


def require_ledger(url: str, prefix: str) -> None:
    """Raise ConfigurationError unless the ledger has the tables that this code needs, and belongs to the deployment
    whose topics have this prefix.
    """
    engine = connect(url)
    try:
        require_current(engine)
        Deployment(engine).require(Fact.PREFIX, prefix)
    finally:
        engine.dispose()
