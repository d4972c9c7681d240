"""Claims that were handed out: kept, given back, and found."""

from collections.abc import Sequence

from sqlalchemy import Connection, case, delete, select, update

from headrace_workers.ledger.database import among, now_ms
from headrace_workers.ledger.tables import CLAIMS, STEPS


def renew(connection: Connection, claim_ids: Sequence[int], lease_ms: int) -> frozenset[int]:
    """Put off the end of these leases; the ids that still are leases."""
    return frozenset(
        connection.execute(
            update(CLAIMS)
            .where(among(connection, CLAIMS.c.id, claim_ids))
            .values(lease_until=now_ms() + lease_ms)
            .returning(CLAIMS.c.id)
        ).scalars()
    )


def release(connection: Connection, claim_ids: Sequence[int]) -> int:
    """Give back claims whose work was not done: their steps are ready again, and this attempt never was."""
    gone = (
        connection.execute(delete(CLAIMS).where(among(connection, CLAIMS.c.id, claim_ids)).returning(CLAIMS.c.id))
        .scalars()
        .all()
    )
    if not gone:
        return 0
    return connection.execute(
        update(STEPS)
        .where(among(connection, STEPS.c.claim_id, gone), STEPS.c.state == "leased")
        .values(
            state="ready",
            claim_id=None,
            attempts=case((STEPS.c.attempts > 0, STEPS.c.attempts - 1), else_=0),
        )
    ).rowcount


def unstarted_of(connection: Connection, sender: str) -> list[int]:
    """The claims that this bridge or worker sent out and no worker has started."""
    return list(
        connection.execute(
            select(CLAIMS.c.id).where(CLAIMS.c.sender == sender, CLAIMS.c.started_at.is_(None))
        ).scalars()
    )
