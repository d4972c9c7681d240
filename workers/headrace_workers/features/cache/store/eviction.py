"""Eviction: beyond a tenant's limit the least valuable answers go, a bounded number a transaction.

The worth of an answer is the model's time that it saves by the hour: how often it was given, times the time that it
took to make, by its age. Its worth is compared only with its neighbours' worth, from a random place on, so that a look
costs the same however many there are.
"""

import random
from typing import Any, Final

from sqlalchemy import Connection, func, select

from headrace_workers.core.sql.database import among, locks_rows, now_ms
from headrace_workers.features.cache.store import entries
from headrace_workers.features.cache.tables import ENTRIES, IS_LIVE, SERVES

AT_ONCE: Final = 500
_COMPARED: Final = 4 * AT_ONCE
_YOUNG_MS: Final = 3_600_000  # what was just made has had no time to be of use


def evict(connection: Connection, most: int) -> int:
    """Put away a bounded number of answers of the tenant that keeps the most over `most`; return how many."""
    kept = func.count()
    over = select(ENTRIES.c.tenant, kept.label("kept")).where(IS_LIVE).group_by(ENTRIES.c.tenant).having(kept > most)
    row = connection.execute(over.order_by(kept.desc()).limit(1)).first()
    if row is None:
        return 0
    least = _least(connection, _some(connection, row.tenant), min(row.kept - most, AT_ONCE))
    return entries.kill(connection, least, f"its tenant keeps more than {most:,} answers")


def _some(connection: Connection, tenant: str) -> list[int]:
    """Return answers of a tenant, in the order of their ids from a random one on, and then from the first."""
    theirs = (IS_LIVE, ENTRIES.c.tenant == tenant)
    last = connection.execute(select(func.max(ENTRIES.c.id)).where(*theirs)).scalar_one()
    place = random.randint(0, last)
    query = select(ENTRIES.c.id).where(*theirs).order_by(ENTRIES.c.id).limit(_COMPARED)
    behind = list(connection.execute(query.where(ENTRIES.c.id >= place)).scalars())
    return [*behind, *connection.execute(query.where(ENTRIES.c.id < place)).scalars()][:_COMPARED]


def _least(connection: Connection, ids: list[int], wanted: int) -> list[int]:
    """Return the least valuable of these; of equals, the oldest."""
    given = select(func.count()).where(SERVES.c.entry_id == ENTRIES.c.id).scalar_subquery()
    worth: Any = (1 + given) * (1.0 + ENTRIES.c.saved_ms) / (now_ms() - ENTRIES.c.made_at + _YOUNG_MS)
    query = select(ENTRIES.c.id).where(IS_LIVE, among(connection, ENTRIES.c.id, ids))
    least = sorted(connection.execute(query.order_by(worth, ENTRIES.c.made_at, ENTRIES.c.id).limit(wanted)).scalars())
    if locks_rows(connection):  # in the order of their ids: see entries.py
        locked = select(ENTRIES.c.id).where(among(connection, ENTRIES.c.id, least)).order_by(ENTRIES.c.id)
        connection.execute(locked.with_for_update())
    return least
