"""Insertion of many rows at once, numbered in their order.

PostgreSQL takes many by COPY. That costs about half of what single INSERTs do, here and there; arrays, one a column,
cost more than those as soon as there are bytes in them. A few go by one INSERT, which is one question to the server
where COPY is two, and is prepared.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table

from headrace_workers.core.sql.driver_statements import failed, run_text

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
