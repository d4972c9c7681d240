"""Positions of the followers of the change feed: `headrace status` shows which one is behind, and by how much."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, delete, func, select, tuple_

from headrace_workers.core.ledger.changes import Position
from headrace_workers.core.sql.database import insert, now_ms
from headrace_workers.core.sql.single_statements import SingleStatements, rows_of
from headrace_workers.core.tables import CHANGES, FOLLOWERS

_STALE_MS: Final = 60_000  # a follower that has not reported for so long is gone


@dataclass(frozen=True, slots=True)
class FollowerState:
    """The changes of one kind that one process has not taken in yet: how many, and the age (ms) of the oldest."""

    holder: str
    kind: str
    behind: int
    lag_ms: int


def tell(where: Connection | SingleStatements, holder: str, kind: str, position: Position) -> None:
    """Report how far this follower is."""
    row = {"holder": holder, "kind": kind, "xact": position.xact, "number": position.number}
    rows_of(where, _told(where.dialect.name), row)


@lru_cache
def _told(dialect: str) -> Any:
    row = insert(dialect, FOLLOWERS).values(
        {name: bindparam(name) for name in ("holder", "kind", "xact", "number")} | {"seen_at": now_ms()}
    )
    now = {name: row.excluded[name] for name in ("xact", "number", "seen_at")}
    return row.on_conflict_do_update(index_elements=["holder", "kind"], set_=now)


def followers(connection: Connection) -> list[FollowerState]:
    """Return the followers that reported in the last minute, by name."""
    ahead = and_(
        CHANGES.c.kind == FOLLOWERS.c.kind,
        tuple_(CHANGES.c.xact, CHANGES.c.number) > tuple_(FOLLOWERS.c.xact, FOLLOWERS.c.number),
    )
    query = (
        select(
            FOLLOWERS.c.holder,
            FOLLOWERS.c.kind,
            func.count(CHANGES.c.number).label("behind"),
            func.coalesce(now_ms() - func.min(CHANGES.c.at), 0).label("lag"),
        )
        .select_from(FOLLOWERS.outerjoin(CHANGES, ahead))
        .where(FOLLOWERS.c.seen_at > now_ms() - _STALE_MS)
        .group_by(FOLLOWERS.c.holder, FOLLOWERS.c.kind)
        .order_by(FOLLOWERS.c.holder, FOLLOWERS.c.kind)
    )
    return [FollowerState(row.holder, row.kind, row.behind, max(0, row.lag)) for row in connection.execute(query)]


def forget(connection: Connection) -> None:
    """Remove the followers that have not reported for long."""
    connection.execute(delete(FOLLOWERS).where(FOLLOWERS.c.seen_at <= now_ms() - _STALE_MS))
