"""Reading of the task, or the unit, that a claimed step is."""

from datetime import UTC, datetime

from headrace_schemas.codec import decode_job, decode_value
from headrace_workers.core.ledger.leases import StepRow
from headrace_workers.core.pipeline.carried import published, unpack
from headrace_workers.core.pipeline.chain import with_chain
from headrace_workers.core.pipeline.task import Task, Unit
from headrace_workers.core.tables import NEVER


def task_of(row: StepRow, now: int | None = None) -> Task | Unit:
    """Return the task, or the unit, that a claimed step is. `now` is the ledger's time (ms)."""
    if row.endpoint is not None:
        return _unit(row, row.endpoint)
    context, unpublished = unpack(row.context)
    job = with_chain(decode_job(row.kind, row.job_payload), context)
    event = job if row.payload is None else decode_value(row.event_type, row.payload)
    accepted_at = datetime.fromtimestamp(row.accepted_at / 1000, UTC)
    return Task(
        job_id=row.job_id,
        job=job,
        event=event,  # type: ignore[arg-type]
        accepted_at=accepted_at,
        attempt=row.attempts,
        context=context,
        ordinal=row.ordinal,
        stages=published(event) + unpublished,
        woken_by=row.woken_by,
        seconds_left=None if now is None or row.deadline >= NEVER else (row.deadline - now) / 1000,
        waited=0.0 if now is None or row.waited_since is None else (now - row.waited_since) / 1000,
    )


def _unit(row: StepRow, endpoint: str) -> Unit:
    value = row.payload or b""
    event = None if row.payload is None else decode_value(row.event_type, value)
    return Unit(
        id=row.job_id,
        subject=row.subject or "",
        tenant=row.tenant,
        endpoint=endpoint,
        event=event,
        value=value,
        attempt=row.attempts,
        woken_by=row.woken_by,
        job=decode_job("generation", row.job_payload) if row.job_payload else None,
    )
