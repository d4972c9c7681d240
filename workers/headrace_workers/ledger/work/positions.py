"""How far ingest is in each partition. Written with the jobs that were read.

A position counts for one log only: a topic that was made anew, such as by a broker that keeps its log in memory, begins
at 0 again, and is read from there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, or_, select

from headrace_workers.ledger.sql.database import insert
from headrace_workers.ledger.sql.direct import run
from headrace_workers.ledger.tables.core import POSITIONS


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A partition of one log. `topic` is Kafka's name, `log` the id that the broker gave it when it was made."""

    topic: str
    partition: int
    log: str


def positions(connection: Connection) -> dict[Place, int]:
    """The offset that comes next, by place."""
    return {Place(row.topic, row.partition, row.log): row.next for row in connection.execute(select(POSITIONS))}


def advance(connection: Connection, following: Mapping[Place, int]) -> None:
    """Note which offset comes next in each place. In the same log it never goes back: another may have been quicker."""
    rows = [
        {"topic": place.topic, "partition": place.partition, "log": place.log, "next": offset}
        for place, offset in sorted(following.items())  # in one order, so that two bridges cannot deadlock
    ]
    if rows:
        run(connection, _ahead(connection.dialect.name), rows)


@lru_cache
def _ahead(dialect: str) -> Any:
    written = insert(dialect, POSITIONS).values(
        {name: bindparam(name) for name in ("topic", "partition", "log", "next")}
    )
    further = or_(POSITIONS.c.log != written.excluded.log, POSITIONS.c.next < written.excluded.next)
    return written.on_conflict_do_update(
        index_elements=["topic", "partition"],
        set_={"log": written.excluded.log, "next": written.excluded.next},
        where=further,
    )
