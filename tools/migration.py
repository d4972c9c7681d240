"""Write the migration for tables, columns and indexes that the code has and the migrations lack: `make migration
NAME=…`.

Indexes of tables that exist already become a migration of their own: PostgreSQL makes them beside running processes
(`CONCURRENTLY`), outside of a transaction. Whatever else differs is not written, and the tests of migrations report it.
"""

import sys
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, Table, create_engine, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable, sort_tables

from headrace_workers.core.migrate import headrace_tables
from headrace_workers.core.migrations import FOLDER, migrations, run_migrations

_DIALECTS: Final[dict[str, Callable[[], Dialect]]] = {"postgresql": postgresql.dialect, "sqlite": sqlite.dialect}
# Each ledger has an id of its own, drawn when its tables are made.
_IDENTITY: Final = {
    "postgresql": "INSERT INTO identity (id) VALUES (gen_random_uuid()::text)",
    "sqlite": "INSERT INTO identity (id) VALUES (lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || "
    "substr(hex(randomblob(2)), 2) || '-8' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))",
}


def write(name: str) -> list[str]:
    """Write the files that are missing. Return their names."""
    engine = create_engine("sqlite://")
    run_migrations(engine, None)
    number = len(migrations("sqlite")) + 1
    written = []
    with engine.connect() as connection:
        for part in (additions, indexes_of_old_tables):
            names = []
            for dialect in _DIALECTS:
                statements = part(connection, dialect)
                if number == 1 and statements:
                    statements.append(_IDENTITY[dialect])
                if statements:
                    path = FOLDER / f"{number:04}_{name}.{dialect}.sql"
                    path.write_text("".join(f"{statement};\n" for statement in statements), encoding="utf-8")
                    names.append(path.name)
            number += bool(names)
            written += names
            name += "_indexes"
    return written


def additions(there: Connection, dialect: str) -> list[str]:
    """Return the statements, in a dialect, for new tables with their indexes, and for new columns."""
    old, statements = inspect(there), []
    for table in sort_tables(headrace_tables()):
        if not old.has_table(table.name):
            statements += [_sql(CreateTable(table), dialect), *_indexes(table, dialect)]
            continue
        columns = {column["name"] for column in old.get_columns(table.name)}
        statements += [
            f"ALTER TABLE {table.name} ADD COLUMN {_sql(CreateColumn(column), dialect)}"
            for column in table.columns
            if column.name not in columns
        ]
    return statements


def indexes_of_old_tables(there: Connection, dialect: str) -> list[str]:
    """Return the statements, in a dialect, for new indexes of tables that exist."""
    old = inspect(there)
    statements = [
        statement
        for table in sort_tables(headrace_tables())
        if old.has_table(table.name)
        for statement in _indexes(table, dialect, {str(index["name"]) for index in old.get_indexes(table.name)})
    ]
    if dialect == "postgresql":
        return [statement.replace("INDEX ", "INDEX CONCURRENTLY IF NOT EXISTS ", 1) for statement in statements]
    return statements


def _indexes(table: Table, dialect: str, without: frozenset[str] | set[str] = frozenset()) -> list[str]:
    new = [index for index in table.indexes if index.name not in without]
    return [_sql(CreateIndex(index), dialect) for index in sorted(new, key=lambda index: str(index.name))]


def _sql(statement: Any, dialect: str) -> str:
    lines = str(statement.compile(dialect=_DIALECTS[dialect]())).replace("\t", "  ").strip().splitlines()
    return "\n".join(line.rstrip() for line in lines if line.strip())


if __name__ == "__main__":
    print("\n".join(write(sys.argv[1])) or "the migrations make all tables of the code")
