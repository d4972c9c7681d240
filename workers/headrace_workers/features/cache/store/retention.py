"""How long dead answers are kept, and how long it is known whom answers were served to."""

from typing import Final

from sqlalchemy import Connection, delete

from headrace_workers.core.sql.database import among, now_ms
from headrace_workers.core.sql.delete_some import AT_ONCE, delete_some, lock_some
from headrace_workers.features.cache.audit_tables import AUDITS
from headrace_workers.features.cache.tables import ENTRIES, SERVES, USES

_SERVES_MS: Final = 90 * 86_400_000  # a wrong answer is traced further back than jobs are remembered


def forget(connection: Connection, older_than_ms: int) -> bool:
    """Forget a bounded number of answers that died so long ago, of old servings, and of old audits.

    Return True if there may be more.
    """
    dead = lock_some(connection, ENTRIES.c.id, ENTRIES.c.died_at < now_ms() - older_than_ms)
    if dead:
        connection.execute(delete(USES).where(among(connection, USES.c.entry_id, dead)))
        connection.execute(delete(ENTRIES).where(among(connection, ENTRIES.c.id, dead)))
    before = now_ms() - max(older_than_ms, _SERVES_MS)
    more = delete_some(connection, SERVES.c.id, SERVES.c.served_at < before)
    more |= delete_some(connection, AUDITS.c.id, AUDITS.c.served_at < before)
    return more or len(dead) == AT_ONCE
