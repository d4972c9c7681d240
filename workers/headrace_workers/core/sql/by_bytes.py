"""Part of a list whose rows may be large: bounded in bytes and in rows, before a row is read."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, LargeBinary, Row, Select, cast, func, literal, tuple_

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
    """Return the rows of a query in the order of columns that tell each row, or in the reverse one, that stand behind
    those values of them: so many at most, and no more than fit into PART_BYTES, of which the columns `large` are most.
    """
    key = tuple_(*keys)
    if after is not None:
        query = query.where(key < tuple(after) if newest else key > tuple(after))
    ordered = query.order_by(*(each.desc() if newest else each for each in keys))
    size: Any = sum((func.coalesce(_bytes_of(connection, each), 0) for each in large), start=literal(0))
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
