"""Cancellation. It wins when it comes before the job's terminal record; a worker that runs the job stops."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Connection, select, update

from headrace_schemas import Category, JobCancelled
from headrace_schemas.events import Cost
from headrace_workers.core.identity import end_id
from headrace_workers.core.ledger.accounting import AskedModel, is_untold, note
from headrace_workers.core.ledger.charges import cost_of
from headrace_workers.core.ledger.dead_letters import Burial, Record, refusal
from headrace_workers.core.ledger.job_ends import assume_active, finish
from headrace_workers.core.ledger.leases import hold
from headrace_workers.core.ledger.outbox import Outgoing, outgoing
from headrace_workers.core.pipeline.stage import model_of
from headrace_workers.core.sql.database import among, clock, insert
from headrace_workers.core.tables import CLAIMS, JOBS, LIVE, STEPS

CancelOutcome = Literal["cancelled", "cancelled_ahead", "already_ended", "not_yours"]

_EVENT_TYPE = "headrace.job.cancelled.v1"
UNKNOWN: Final = "unknown"  # the kind of a job of which nothing but its cancellation is known


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Request to cancel a job: the tenant, the job and the reason."""

    job_id: str
    tenant: str
    reason: str
    traceparent: str | None = None
    correlationid: str | None = None
    record: Record | None = None  # that brought it, if one did


def cancel(
    connection: Connection, cancellations: Sequence[Cancellation], ahead: Collection[str] | None = None
) -> list[CancelOutcome]:
    """Cancel jobs, all in one pass; return the result of each, in their order. If a job is cancelled twice, the first
    cancellation counts.

    A job that is not known yet is cancelled ahead: when it comes, it is passed over as known. With `ahead`, the caller
    holds the claims and has written what was not known: these.
    """
    if not cancellations:
        return []
    if ahead is None:
        hold(connection, [cancellation.job_id for cancellation in cancellations])
        ahead = _make_known(connection, cancellations)
    now = clock(connection)
    jobs = _lock(connection, {cancellation.job_id for cancellation in cancellations})
    outcomes: list[CancelOutcome] = []
    granted: dict[str, Cancellation] = {}
    for cancellation in cancellations:
        job = jobs.get(cancellation.job_id)
        if job is None:  # it ended long ago, and is forgotten since we looked
            outcomes.append("already_ended")
        elif job.tenant != cancellation.tenant:
            outcomes.append("not_yours")
        elif job.state != "active" or job.subject is not None or cancellation.job_id in granted:
            outcomes.append("already_ended")
        else:
            granted[cancellation.job_id] = cancellation
            outcomes.append("cancelled_ahead" if cancellation.job_id in ahead else "cancelled")
    lost = {job_id for job_id, job in jobs.items() if job.has_lost_calls}
    costs = _cancel_steps(connection, list(granted), now, lost)
    # Only now, when nobody can say anything about these jobs any more: records are published in the order in which
    # they were written, whichever transaction ends first.
    records = [
        (job_id, _record(cancellation, jobs[job_id], now, costs.get(job_id)))
        for job_id, cancellation in granted.items()
    ]
    finish(connection, "cancelled", records, now, assume_active(granted, lost))
    return outcomes


def cancel_one(connection: Connection, cancellation: Cancellation) -> CancelOutcome:
    """Cancel a job; return the result."""
    return cancel(connection, [cancellation])[0]


def foreign(cancellations: Iterable[Cancellation], outcomes: Iterable[CancelOutcome]) -> list[Burial]:
    """Return the letters about cancellations of other tenants' jobs."""
    return [
        refusal(
            cancellation.record,
            Category.CONFLICT,
            f"job {cancellation.job_id} is not {cancellation.tenant}'s: only the tenant that sent a job can cancel it",
            refers_to=cancellation.job_id,
            tenant=cancellation.tenant,
            traceparent=cancellation.traceparent,
        )
        for cancellation, outcome in zip(cancellations, outcomes, strict=True)
        if outcome == "not_yours" and cancellation.record is not None
    ]


def unknown_rows(cancellations: Iterable[Cancellation]) -> dict[str, dict[str, Any]]:
    """Return the rows that these jobs have where nothing else is known of them, by their ids."""
    first: dict[str, Cancellation] = {}
    for cancellation in cancellations:
        first.setdefault(cancellation.job_id, cancellation)
    unknown = {"kind": UNKNOWN, "payload": b""}
    return {job_id: {"id": job_id, "tenant": cancellation.tenant, **unknown} for job_id, cancellation in first.items()}


def _make_known(connection: Connection, cancellations: Iterable[Cancellation]) -> frozenset[str]:
    """Write a row for each job that is not known yet, in the order of ids, as ingest does; return their ids."""
    here = {"state": "active", "accepted_at": clock(connection)}
    rows = [row | here for _, row in sorted(unknown_rows(cancellations).items())]
    statement = insert(connection, JOBS).on_conflict_do_nothing(index_elements=["id"]).returning(JOBS.c.id)
    return frozenset(connection.execute(statement, rows).scalars())


def _lock(connection: Connection, job_ids: Iterable[str]) -> dict[str, Any]:
    columns = (JOBS.c[name] for name in ("id", "tenant", "state", "replays", "correlationid", "subject"))
    query = select(*columns, is_untold(JOBS.c.id).label("has_lost_calls"))
    query = query.where(among(connection, JOBS.c.id, list(job_ids))).order_by(JOBS.c.id)
    rows = connection.execute(query.with_for_update(of=JOBS))
    return {row.id: row for row in rows}


def _record(cancellation: Cancellation, job: Any, now: int, cost: Cost | None) -> Outgoing:
    return outgoing(
        JobCancelled(job_id=cancellation.job_id, tenant=cancellation.tenant, reason=cancellation.reason, cost=cost),
        event_id=end_id(cancellation.job_id, _EVENT_TYPE, job.replays),
        job_id=cancellation.job_id,
        traceparent=cancellation.traceparent,
        correlationid=job.correlationid or cancellation.correlationid,
        at_ms=now,
    )


def _cancel_steps(connection: Connection, job_ids: list[str], now: int, lost: set[str]) -> dict[str, Cost | None]:
    """End all steps that could still run; return what the jobs cost until then. Calls that are under way are `lost`.
    Locked jobs are given no new ones, save by a completion under way.

    Such a completion is waited for, and what it made was not there when we began to wait: so look again.
    """
    costs: dict[str, Cost | None] = {}
    if not job_ids:
        return costs
    live = among(connection, STEPS.c.job_id, job_ids) & STEPS.c.state.in_(LIVE)
    began = CLAIMS.c.started_at.is_not(None).label("began")
    query = select(STEPS.c.job_id, STEPS.c.claim_id, STEPS.c.queue, STEPS.c.context, began)
    query = query.outerjoin(CLAIMS, CLAIMS.c.id == STEPS.c.claim_id).where(live)
    while rows := connection.execute(query).all():
        costs |= {row.job_id: cost_of(row.context) for row in rows}
        asked = [row for row in rows if row.began and model_of(row.queue) is not None]
        lost |= {row.job_id for row in asked}
        note(connection, [AskedModel(row.job_id, row.claim_id, row.queue, row.context) for row in asked])
        connection.execute(update(STEPS).where(live).values(state="cancelled", claim_id=None, ended_at=now))
    return costs
