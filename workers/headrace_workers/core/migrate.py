"""The tables of a ledger: made where they are missing, and stamped with a digest of their definition.

Until the first release no table changes in place: a ledger whose tables were defined otherwise is refused.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from typing import Final
from uuid import uuid4

from sqlalchemy import Connection, Engine, Index, Table, inspect, select, text
from sqlalchemy.schema import sort_tables

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.feature import installed
from headrace_workers.core.ledger.ledger import Deployment, Fact
from headrace_workers.core.sql.database import connect, locks_rows, reading, unhurried, writing
from headrace_workers.core.sql.database_errors import NotAdmitted
from headrace_workers.core.tables import IDENTITY, METADATA, STAMPS

_LOCK: Final = 0x6865616472616365 % 2**63  # "headrace": two processes that make tables take turns
_REMEDY: Final = (
    "Use that version, or name a new database in HEADRACE_LEDGER (in Docker Compose: "
    "docs/how-to/adapt-the-compose-file.md#a-new-ledger)"
)


def migrate(engine: Engine) -> int:
    """Make the tables that are missing, whichever process comes first. Return how many this version has.

    Raise ConfigurationError if the server does not admit us, or if the ledger has tables of another version.
    """
    tables = _tables()
    with _at_start(), writing(engine) as tx, unhurried(tx):
        if locks_rows(tx):
            tx.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        missing = _missing(tx, tables)
        for table in sort_tables(missing):
            table.create(tx)
        for table in missing:
            tx.execute(STAMPS.insert().values(name=table.name, digest=_digest(table)))
        if IDENTITY in missing:
            tx.execute(IDENTITY.insert().values(id=str(uuid4())))
    return len(tables)


def has_tables(engine: Engine) -> bool:
    """Return True if the tables of a ledger are there."""
    with reading(engine) as tx:
        return inspect(tx).has_table(STAMPS.name)


def require_current(engine: Engine) -> None:
    """Raise ConfigurationError unless the server admits us and the ledger has the tables that this code needs."""
    with _at_start(), reading(engine) as tx:
        missing = _missing(tx, _tables())
    if missing:
        few = ", ".join(sorted(table.name for table in missing)[:5])
        names = few if len(missing) <= 5 else f"{few} and {len(missing) - 5} more"
        raise ConfigurationError(f"the ledger lacks the tables {names}: run `headrace ledger migrate`")


def _tables() -> list[Table]:
    """Return all tables of this version: those of the core first, where the stamps are, then those of features."""
    of_features = [table for feature in installed() for table in feature.tables()]
    return list(dict.fromkeys((STAMPS, *METADATA.tables.values(), *of_features)))


def _missing(tx: Connection, tables: Iterable[Table]) -> list[Table]:
    """Return the tables that the ledger never had. Raise ConfigurationError for a table that was lost, since an empty
    one in its place would hide the loss, or that was defined otherwise.
    """
    there = frozenset(inspect(tx).get_table_names())
    if "alembic_version" in there:
        raise ConfigurationError(f"the ledger was made by an earlier version, before the first release. {_REMEDY}")
    stamps = {row.name: row.digest for row in tx.execute(select(STAMPS))} if STAMPS.name in there else {}
    if lost := sorted(table.name for table in tables if table.name in stamps and table.name not in there):
        raise ConfigurationError(f"the ledger has lost the tables {', '.join(lost)}: restore it from a backup")
    found = [table for table in tables if table.name in there]
    if others := sorted(table.name for table in found if stamps.get(table.name) != _digest(table)):
        raise ConfigurationError(f"the ledger's table {others[0]} was made by another version of headrace. {_REMEDY}")
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
