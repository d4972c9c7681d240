"""Changes of answers that may be given again, as workers follow them."""

from collections.abc import Collection
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, and_, select

from headrace_workers.core.ledger import change_feed
from headrace_workers.core.ledger.change_feed import MARK, Mark, Position, mark_of
from headrace_workers.core.sql.database import among
from headrace_workers.core.tables import CHANGES
from headrace_workers.features.cache.tables import ENTRIES, ENTRY

_NOW: Final = (ENTRIES.c.scope, ENTRIES.c.question, ENTRIES.c.vector, ENTRIES.c.state)
_IS_FINDABLE: Final = and_(ENTRIES.c.id == CHANGES.c.subject, ENTRIES.c.state.in_(("live", "pending")))


class Change(NamedTuple):
    """An entry as it is now; without a vector it is not, or no longer, to be looked up by likeness."""

    mark: Mark
    entry_id: int
    scope: str | None
    question: str | None
    vector: bytes | None
    making: bool  # its answer is not there yet

    @property
    def position(self) -> Position:
        """Return the follower's position."""
        return self.mark.position


def follow(connection: Connection, after: Position, limit: int) -> list[Change]:
    """Return the changes of entries after a position, in order, each with what the entry is now."""
    found = change_feed.follow(connection, ENTRY, after, limit, _NOW, _IS_FINDABLE)
    return [_change(mark, row) for mark, row in found]


def lately(connection: Connection, after: int, scopes: Collection[str], limit: int) -> list[Change]:
    """Return what is new in these scopes since the change of this number, the latest first, in whatever order it came.

    Use it for one look, not to follow: changes of a slow writer may be missing, and changes may repeat ones that were
    followed.
    """
    query = (
        select(*MARK, *_NOW)
        .select_from(CHANGES.join(ENTRIES, _IS_FINDABLE))
        .where(
            CHANGES.c.number > after,
            CHANGES.c.kind == ENTRY,
            ENTRIES.c.vector.is_not(None),
            among(connection, ENTRIES.c.scope, sorted(scopes)),
        )
        .order_by(CHANGES.c.number.desc())
        .limit(limit)
    )
    return [_change(mark_of(row), row) for row in connection.execute(query)]


def _change(mark: Mark, row: Any) -> Change:
    return Change(mark, mark.subject, row.scope, row.question, row.vector, row.state == "pending")
