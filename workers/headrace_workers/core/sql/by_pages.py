"""Long answers, a page at a time: no statement runs for long, and no more than a page is in memory."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, tuple_

_PAGE: Final = 1_000


def by_pages(
    connection: Connection, query: Select[Any], keys: Sequence[Any], limit: int | None = None, *, newest: bool = False
) -> Iterator[Row[Any]]:
    """Yield the rows of a query in the order of columns that it selects and that tell each row, or in the reverse
    one.
    """
    key = tuple_(*keys)
    ordered = query.order_by(*(each.desc() if newest else each for each in keys))
    last: tuple[Any, ...] | None = None
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(_PAGE, left)
        page = ordered if last is None else ordered.where(key < last if newest else key > last)
        rows = connection.execute(page.limit(size)).all()
        yield from rows
        if len(rows) < size:
            return
        last = tuple(getattr(rows[-1], each.key) for each in keys)
        left = None if left is None else left - len(rows)
