"""One job, or some: what the ledger knows of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from headrace_workers.ledger.database import among, clock
from headrace_workers.ledger.outbox import SetAside, aside
from headrace_workers.ledger.tables import CLAIMS, JOBS, STEPS


@dataclass(frozen=True, slots=True)
class JobView:
    """One job with its steps, in the order in which they came.

    A step that is in hand has, beside its own columns, its claim's: `begun_at` (absent when it was handed out and
    nobody has begun it) and `worker`. `set_aside`: its events that Kafka refused.
    """

    job: Row[Any]
    steps: tuple[Row[Any], ...]
    now: int
    set_aside: tuple[SetAside, ...] = ()


def job(connection: Connection, job_id: str) -> JobView | None:
    """One job; None when the ledger does not know it."""
    row = connection.execute(select(JOBS).where(JOBS.c.id == job_id)).first()
    if row is None:
        return None
    steps = connection.execute(
        select(STEPS, CLAIMS.c.started_at.label("begun_at"), CLAIMS.c.worker)
        .outerjoin(CLAIMS, CLAIMS.c.id == STEPS.c.claim_id)
        .where(STEPS.c.job_id == job_id)
        .order_by(STEPS.c.ready_at, STEPS.c.stage)
    ).all()
    return JobView(row, tuple(steps), clock(connection), tuple(aside(connection, 100, job_id)))


def units_of(connection: Connection, subject: str, limit: int) -> list[Row[Any]]:
    """What follows the events of a job, oldest first: id, stage, endpoint, state, attempts, and the last reason."""
    query = (
        select(JOBS.c.id, STEPS.c.stage, JOBS.c.endpoint, STEPS.c.state, STEPS.c.attempts, STEPS.c.reason)
        .join(STEPS, STEPS.c.job_id == JOBS.c.id)
        .where(JOBS.c.subject == subject)
        .order_by(JOBS.c.accepted_at, STEPS.c.stage, JOBS.c.endpoint)
    )
    return [*connection.execute(query.limit(limit))]


def jobs_of(connection: Connection, job_ids: Sequence[str]) -> dict[str, tuple[str, bytes]]:
    """Kind and content of those of these jobs that are known."""
    query = select(JOBS.c.id, JOBS.c.kind, JOBS.c.payload).where(among(connection, JOBS.c.id, job_ids))
    return {row.id: (row.kind, row.payload) for row in connection.execute(query)}


def correlated(connection: Connection, correlationid: str, limit: int) -> list[str]:
    """The ids of the jobs that carry a correlation id, newest first."""
    query = select(JOBS.c.id).where(JOBS.c.correlationid == correlationid).order_by(JOBS.c.accepted_at.desc())
    return list(connection.execute(query.limit(limit)).scalars())


def terminals(connection: Connection, job_ids: list[str]) -> dict[str, tuple[str, bytes]]:
    """The terminal event (its type and JSON) of each of these jobs that has ended."""
    rows = connection.execute(
        select(JOBS.c.id, JOBS.c.terminal_type, JOBS.c.terminal).where(
            JOBS.c.id.in_(job_ids), JOBS.c.ended_at.is_not(None)
        )
    )
    return {row.id: (row.terminal_type, row.terminal) for row in rows}
