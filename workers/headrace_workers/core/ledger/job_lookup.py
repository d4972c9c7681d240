"""Look-up of one job by its id, and of several by a key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from headrace_schemas.job import derive_job_id
from headrace_workers.core.ledger.fair_queueing import CLOCK
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.ledger.outbox import SetAside, aside
from headrace_workers.core.sql.database import among, clock
from headrace_workers.core.tables import CLAIMS, IS_ACTIVE, JOBS, STEPS, TURNS

_NOBODY_SAID: Final = "default"  # the tenant of jobs that name none
_MOST_TENANTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with its steps, in the order in which they were made.

    A claimed step has the columns of its claim in addition to its own: `begun_at` (absent when it was assigned and
    nobody has begun it) and `worker`. `set_aside`: its events that Kafka refused.
    """

    job: Row[Any]
    steps: tuple[Row[Any], ...]
    now: int
    set_aside: tuple[SetAside, ...] = ()


def job(connection: Connection, job_id: str) -> JobView | None:
    """Return one job; None when the ledger does not know it."""
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


def units_of(connection: Connection, job_id: str, limit: int = 100) -> list[Row[Any]]:
    """Return the units that follow the events of a job, oldest first: id, stage, endpoint, state, attempts, last
    reason.
    """
    query = (
        select(JOBS.c.id, STEPS.c.stage, JOBS.c.endpoint, STEPS.c.state, STEPS.c.attempts, STEPS.c.reason)
        .join(STEPS, STEPS.c.job_id == JOBS.c.id)
        .where(JOBS.c.subject == job_id)
        .order_by(JOBS.c.accepted_at, STEPS.c.stage, JOBS.c.endpoint)
    )
    return [*connection.execute(query.limit(limit))]


def jobs_of(connection: Connection, job_ids: Sequence[str]) -> dict[str, tuple[str, bytes]]:
    """Return kind and content of those of these jobs that are known."""
    query = select(JOBS.c.id, JOBS.c.kind, JOBS.c.payload).where(among(connection, JOBS.c.id, job_ids))
    return {row.id: (row.kind, row.payload) for row in connection.execute(query)}


def named(connection: Connection, name: str, tenant: str | None, limit: int) -> list[str]:
    """Return the ids of the jobs that have this idempotency key or correlation id, or that an event with this id
    brought, the newest first.

    Keys, and the ids of most events, are in no column: a job's id is made of them and its tenant. Without a tenant this
    searches `default` and the tenants that have had work lately.
    """
    tenants = [tenant] if tenant is not None else _tenants(connection)
    derived = [derive_job_id(each, name) for each in tenants]
    whose = [] if tenant is None else [JOBS.c.tenant == tenant]
    found: dict[str, int] = {}
    for which in (among(connection, JOBS.c.id, derived), JOBS.c.correlationid == name, JOBS.c.ce_id == name):
        query = select(JOBS.c.id, JOBS.c.accepted_at).where(which, *whose).order_by(JOBS.c.accepted_at.desc())
        found |= {row.id: row.accepted_at for row in connection.execute(query.limit(limit))}
    return sorted(found, key=lambda job_id: (-found[job_id], job_id))[:limit]


def _tenants(connection: Connection) -> list[str]:
    waiting = select(TURNS.c.tenant).where(TURNS.c.tenant != CLOCK).distinct()
    newest = select(JOBS.c.tenant).where(IS_ACTIVE).order_by(JOBS.c.accepted_at.desc())
    queries = (query.limit(_MOST_TENANTS) for query in (waiting, newest))
    names = {name for query in queries for name in connection.execute(query).scalars()}
    for feature in hooks():
        names.update(feature.known_tenants(connection, _MOST_TENANTS))
    return sorted({_NOBODY_SAID, *names})


def terminals(connection: Connection, job_ids: list[str]) -> dict[str, tuple[str, bytes]]:
    """Return the terminal event (its type and JSON) of each of these jobs that has ended."""
    rows = connection.execute(
        select(JOBS.c.id, JOBS.c.terminal_type, JOBS.c.terminal).where(
            JOBS.c.id.in_(job_ids), JOBS.c.ended_at.is_not(None)
        )
    )
    return {row.id: (row.terminal_type, row.terminal) for row in rows}
