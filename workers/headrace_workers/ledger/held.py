"""Steps that wait for a person: who they are, and what a person decides about them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, update

from headrace_schemas import Category
from headrace_workers.ledger import recalled
from headrace_workers.ledger.database import among, clock, now_ms
from headrace_workers.ledger.dead import bury
from headrace_workers.ledger.ends import active
from headrace_workers.ledger.recover import burials
from headrace_workers.ledger.tables import IS_HELD, JOBS, RELEASED, STEPS


def held(connection: Connection, limit: int) -> list[Row[Any]]:
    """What is held, longest first: job, tenant, stage, reason, and since when (ms)."""
    columns = (STEPS.c.job_id, JOBS.c.tenant, STEPS.c.stage, STEPS.c.reason, STEPS.c.ready_at.label("since"))
    query = select(*columns).join(JOBS, JOBS.c.id == STEPS.c.job_id).where(IS_HELD).order_by(STEPS.c.ready_at)
    return [*connection.execute(query.limit(limit))]


def release_held(connection: Connection, job_ids: Sequence[str]) -> int:
    """Make the held steps of these jobs ready again; how many."""
    alive = sorted(active(connection, job_ids))
    return connection.execute(
        update(STEPS)
        .where(IS_HELD, among(connection, STEPS.c.job_id, alive))
        .values(state="ready", ready_at=now_ms(), reason=None, woken_by=RELEASED)
    ).rowcount


def withhold(connection: Connection, job_ids: Sequence[str], reason: str) -> frozenset[str]:
    """End, as dead, those of these jobs that are held; their ids. Nobody is given their answers any more either."""
    alive = sorted(active(connection, job_ids))
    mine = IS_HELD & among(connection, STEPS.c.job_id, alive)
    ended = bury(connection, burials(connection, mine, Category.PERMANENT, f"withheld: {reason}"), clock(connection))
    recalled.disown(connection, sorted(ended), f"withheld: {reason}")
    return ended
