"""What a process cannot do at the moment, for people to see: in `headrace status`."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, select

from headrace_workers.core.sql.database import insert, now_ms
from headrace_workers.core.tables import TROUBLES

_STALE_MS = 60_000  # who has not said it again for so long is gone, or does it again
_MAX_REASON = 2_000


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that a process cannot do. `since` in ms since 1970."""

    holder: str
    subject: str
    reason: str
    since: int


def tell(connection: Connection, holder: str, duty: str, troubles: Mapping[str, str]) -> None:
    """All that this holder cannot do of a duty now, a reason for each subject; what is not named is over."""
    now = now_ms()
    named = {f"{duty} {subject}".rstrip()[:255]: reason[:_MAX_REASON] for subject, reason in troubles.items()}
    ours = and_(TROUBLES.c.holder == holder, TROUBLES.c.subject.startswith(duty, autoescape=True))
    connection.execute(delete(TROUBLES).where(ours, TROUBLES.c.subject.not_in(named)))
    for subject, reason in named.items():
        said = insert(connection, TROUBLES).values(
            holder=holder, subject=subject, reason=reason, since=now, seen_at=now
        )
        connection.execute(
            said.on_conflict_do_update(
                index_elements=["holder", "subject"],
                set_={"reason": said.excluded.reason, "seen_at": said.excluded.seen_at},
            )
        )


def troubles(connection: Connection) -> list[Trouble]:
    """Return what is told at the moment, oldest first; what the dead have left is removed by `forget`."""
    rows = connection.execute(
        select(TROUBLES).where(TROUBLES.c.seen_at > now_ms() - _STALE_MS).order_by(TROUBLES.c.since, TROUBLES.c.subject)
    )
    return [Trouble(row.holder, row.subject, row.reason, row.since) for row in rows]


def forget(connection: Connection) -> None:
    """Remove what nobody has said for long."""
    connection.execute(delete(TROUBLES).where(TROUBLES.c.seen_at <= now_ms() - _STALE_MS))
