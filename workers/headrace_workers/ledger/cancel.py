"""Cancelling. It wins when it comes before the job's terminal record; a job that is running is let go of."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, select, update

from headrace_schemas import JobCancelled
from headrace_workers.identity import event_id
from headrace_workers.ledger.database import clock, insert
from headrace_workers.ledger.dead import active, end_jobs
from headrace_workers.ledger.outbox import outgoing
from headrace_workers.ledger.records import Record
from headrace_workers.ledger.tables import JOBS, STEPS

CancelOutcome = Literal["cancelled", "cancelled_ahead", "already_ended", "not_yours"]


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Who wants which job cancelled, and why."""

    job_id: str
    tenant: str
    reason: str
    traceparent: str | None = None
    correlationid: str | None = None
    record: Record | None = None  # that brought it, if one did


def cancel(connection: Connection, wish: Cancellation) -> CancelOutcome:
    """Cancel a job. One that is not known yet is cancelled ahead: when it comes, it is passed over as known."""
    now = clock(connection)
    event = JobCancelled(job_id=wish.job_id, tenant=wish.tenant, reason=wish.reason)
    known = connection.execute(
        select(JOBS.c.tenant, JOBS.c.replays, JOBS.c.correlationid).where(JOBS.c.id == wish.job_id)
    ).first()
    if known is None:
        added = connection.execute(
            insert(connection, JOBS)
            .on_conflict_do_nothing(index_elements=["id"])
            .values(id=wish.job_id, tenant=wish.tenant, kind="unknown", state="active", payload=b"", accepted_at=now)
            .returning(JOBS.c.id)
        ).first()
        if added is None:  # it came at this very moment
            return cancel(connection, wish)
    elif known.tenant != wish.tenant:
        return "not_yours"
    if not active(connection, [wish.job_id]):
        return "already_ended"
    replays = known.replays if known else 0
    record = outgoing(
        event,
        event_id=event_id(wish.job_id, "headrace.job.cancelled.v1", replays),
        job_id=wish.job_id,
        traceparent=wish.traceparent,
        correlationid=(known.correlationid if known else None) or wish.correlationid,
        at_ms=now,
    )
    end_jobs(connection, "cancelled", [(wish.job_id, record)], now)
    connection.execute(
        update(STEPS)
        .where(STEPS.c.job_id == wish.job_id, STEPS.c.state.in_(("ready", "waiting", "leased")))
        .values(state="cancelled", claim_id=None, ended_at=now)
    )
    return "cancelled" if known else "cancelled_ahead"
