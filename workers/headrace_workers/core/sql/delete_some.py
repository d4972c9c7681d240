"""Deleting old rows, a bounded number at a time and none that another transaction holds."""

from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, delete, select

from headrace_workers.core.sql.database import among

AT_ONCE: Final = 500


def lock_some(connection: Connection, column: Column[Any], where: ColumnElement[bool]) -> list[Any]:
    """Lock at most `AT_ONCE` rows that no other transaction holds; return their values of this column."""
    query = select(column).where(where).limit(AT_ONCE)
    return list(connection.execute(query.with_for_update(skip_locked=True)).scalars())


def delete_some(connection: Connection, column: Column[Any], where: ColumnElement[bool]) -> bool:
    """Delete at most `AT_ONCE` rows, which this column tells apart; return True if there may be more."""
    keys = lock_some(connection, column, where)
    if keys:
        connection.execute(delete(column.table).where(among(connection, column, keys)))
    return len(keys) == AT_ONCE
