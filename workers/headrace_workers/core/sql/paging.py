"""Bounded parts of what may be large: lists by bytes, long answers by pages, and deletion of old rows."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    LargeBinary,
    Row,
    Select,
    cast,
    delete,
    func,
    literal,
    select,
    tuple_,
)

from headrace_workers.core.sql.database import among

PART_BYTES: Final = 4 * 1024**2  # of large columns, beside a row that is larger by itself


class Part(NamedTuple):
    """Rows, and whether there are more after them."""

    rows: list[Row[Any]]
    more: bool


def by_bytes(
    connection: Connection,
    query: Select[Any],
    keys: Sequence[Any],
    after: Sequence[Any] | None,
    limit: int,
    *,
    newest: bool,
    large: Sequence[Any],
) -> Part:
    """Return the rows of a query in the order of columns that tell each row, or in the reverse one, that stand after
    those values of them: so many at most, and no more than fit into PART_BYTES, of which the columns `large` are most.
    """
    key = tuple_(*keys)
    if after is not None:
        query = query.where(key < tuple(after) if newest else key > tuple(after))
    ordered = query.order_by(*(item.desc() if newest else item for item in keys))
    size: Any = sum((func.coalesce(_bytes_of(connection, item), 0) for item in large), start=literal(0))
    sizes = connection.execute(ordered.with_only_columns(size).limit(limit + 1)).scalars().all()
    fits = _fitting(sizes[:limit])
    return Part(list(connection.execute(ordered.limit(fits))), len(sizes) > fits)


def _fitting(sizes: Sequence[int]) -> int:
    """Return how many of the first of these fit, one at least where there is one."""
    left = PART_BYTES
    for count, size in enumerate(sizes):
        left -= size
        if left < 0:
            return max(1, count)
    return len(sizes)


def _bytes_of(connection: Connection, text: Any) -> Any:
    """Return the bytes of a text, which SQLite counts of a blob alone."""
    if connection.dialect.name == "sqlite":
        return func.length(cast(text, LargeBinary))
    return func.octet_length(text)


_PAGE: Final = 1_000


def by_pages(
    connection: Connection, query: Select[Any], keys: Sequence[Any], limit: int | None = None, *, newest: bool = False
) -> Iterator[Row[Any]]:
    """Yield the rows of a query in the order of columns that it selects and that tell each row, or in the reverse
    one.
    """
    key = tuple_(*keys)
    ordered = query.order_by(*(item.desc() if newest else item for item in keys))
    last: tuple[Any, ...] | None = None
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(_PAGE, left)
        page = ordered if last is None else ordered.where(key < last if newest else key > last)
        rows = connection.execute(page.limit(size)).all()
        yield from rows
        if len(rows) < size:
            return
        last = tuple(getattr(rows[-1], item.key) for item in keys)
        left = None if left is None else left - len(rows)


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
