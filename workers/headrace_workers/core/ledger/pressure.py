"""Load of the ledger: how full it is, and how long its queues keep work waiting. Admission asks before it admits
more.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from headrace_workers.core.ledger.counts import active_jobs
from headrace_workers.core.sql.database import clock
from headrace_workers.core.tables import IS_READY, STEPS

Place = tuple[str, int]  # a queue and a lane


@dataclass(frozen=True, slots=True)
class Pressure:
    """Jobs that have not ended, and for how long (ms) the step that is next in each place has been ready."""

    active: int
    ages: dict[Place, int] = field(default_factory=dict)


def pressure(connection: Connection, places: Collection[Place]) -> Pressure:
    """Return the load of these places, without those where nothing is ready."""
    now, ages = clock(connection), {}
    order = (STEPS.c.rank, STEPS.c.due, STEPS.c.turn, STEPS.c.job_id)
    for queue, lane in places:
        query = select(STEPS.c.ready_at).where(IS_READY, STEPS.c.queue == queue, STEPS.c.lane == lane)
        head = connection.execute(query.order_by(*order).limit(1)).scalar()
        if head is not None:
            ages[queue, lane] = max(0, now - head)
    return Pressure(active_jobs(connection), ages)
