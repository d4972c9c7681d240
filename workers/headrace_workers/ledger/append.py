"""Many new rows in one go, in their order: numbers are given in it.

PostgreSQL takes them by COPY. That costs about half of what single INSERTs do, here and there; arrays, one a column,
cost more than those as soon as there are bytes in them.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError


def append(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Write new rows, all with the same columns. None may be there already."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        _copy(connection, table, rows)
    else:
        connection.execute(table.insert(), rows)


def _copy(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    import psycopg

    names = list(rows[0])
    statement = f"COPY {table.name} ({', '.join(names)}) FROM STDIN"
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row([row[name] for name in names])
    except psycopg.Error as error:
        if driver.broken or driver.closed:
            connection.invalidate()
        raise DBAPIError.instance(
            statement, None, error, psycopg.Error, hide_parameters=True, dialect=connection.dialect
        ) from None
