"""Incidents: failures that processes report until they are over. `headrace status` shows them."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, select

from headrace_workers.core.sql.database import insert, now_ms
from headrace_workers.core.tables import INCIDENTS

_STALE_MS = 60_000  # a holder that has not reported for so long is gone, or has recovered
_MAX_REASON = 2_000


@dataclass(frozen=True, slots=True)
class Incident:
    """A failure that a process reports until it is over. `since` in ms since 1970. `mends_itself`: it may be over, and
    the next job will tell: it is no fault to act on.
    """

    holder: str
    subject: str
    reason: str
    since: int
    mends_itself: bool = False


def tell(connection: Connection, holder: str, duty: str, incidents: Mapping[str, str]) -> None:
    """Replace the incidents of a holder's duty by these: a reason for each subject."""
    now = now_ms()
    named = {f"{duty} {subject}".rstrip()[:255]: reason[:_MAX_REASON] for subject, reason in incidents.items()}
    ours = and_(INCIDENTS.c.holder == holder, INCIDENTS.c.subject.startswith(duty, autoescape=True))
    connection.execute(delete(INCIDENTS).where(ours, INCIDENTS.c.subject.not_in(named)))
    for subject, reason in named.items():
        row = insert(connection, INCIDENTS).values(
            holder=holder, subject=subject, reason=reason, since=now, seen_at=now
        )
        connection.execute(
            row.on_conflict_do_update(
                index_elements=["holder", "subject"],
                set_={"reason": row.excluded.reason, "seen_at": row.excluded.seen_at},
            )
        )


def open_incidents(connection: Connection) -> list[Incident]:
    """Return the incidents that are not over, oldest first, except for incidents that nobody has reported for a
    minute."""
    rows = connection.execute(
        select(INCIDENTS)
        .where(INCIDENTS.c.seen_at > now_ms() - _STALE_MS)
        .order_by(INCIDENTS.c.since, INCIDENTS.c.subject)
    )
    return [Incident(row.holder, row.subject, row.reason, row.since) for row in rows]


def forget(connection: Connection) -> None:
    """Delete the incidents that nobody has reported for a minute."""
    connection.execute(delete(INCIDENTS).where(INCIDENTS.c.seen_at <= now_ms() - _STALE_MS))
