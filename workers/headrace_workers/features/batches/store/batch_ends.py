"""The end of a batch: its jobs end or are cancelled, its files are complete, and listeners are notified."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, and_, case, func, select, update

from headrace_schemas.callback import BatchCallback
from headrace_workers.core.ledger import cancellation
from headrace_workers.core.sql.database import clock, now_ms
from headrace_workers.core.tables import IS_TO_COLLECT, IS_UNDER_WAY, JOBS
from headrace_workers.features.batches.store.batches import (
    BATCH_EXPIRED,
    CANCELLED,
    CANCELLING,
    COMPLETED,
    EXPIRED,
    FAILED_WHOLE,
    FINALIZING,
    UNREADABLE,
    locked,
)
from headrace_workers.features.batches.tables import BATCHES, LINES
from headrace_workers.features.files.store import files
from headrace_workers.features.webhooks.store import deliveries


def cancel_open_jobs(connection: Connection, number: int, tenant: str, reason: str, limit: int) -> int:
    """Cancel a bounded number of the batch's jobs that are under way, and return how many."""
    query = select(JOBS.c.id).where(IS_UNDER_WAY, JOBS.c.batch == number).limit(limit)
    wishes = [cancellation.Cancellation(job_id, tenant, reason) for job_id in connection.execute(query).scalars()]
    return sum(outcome == "cancelled" for outcome in cancellation.cancel(connection, wishes))


def is_all_ended(connection: Connection, number: int) -> bool:
    """Return True if no job of the batch is under way."""
    return connection.execute(select(JOBS.c.id).where(IS_UNDER_WAY, JOBS.c.batch == number).limit(1)).first() is None


def finalize(connection: Connection, number: int) -> None:
    """Finalize a batch whose jobs have all ended: only its files are still to be written."""
    here = and_(BATCHES.c.number == number, BATCHES.c.finalizing_at.is_(None), BATCHES.c.ended_at.is_(None))
    state = case((BATCHES.c.state == CANCELLING, CANCELLING), else_=FINALIZING)
    connection.execute(update(BATCHES).where(here).values(finalizing_at=now_ms(), state=state))


def give_up(connection: Connection, number: int, reason: str, *, reads_on: bool) -> None:
    """Run no more lines of a batch, which fails. Lines that were taken in are finished. The others are refused, with
    their names if the input can be read on.
    """
    here = and_(BATCHES.c.number == number, BATCHES.c.ended_at.is_(None))
    given_up = update(BATCHES).where(here).values(reason=func.coalesce(BATCHES.c.reason, reason[:2_000]), crashes=0)
    connection.execute(given_up if reads_on else given_up.values(position=UNREADABLE))


def finish(connection: Connection, number: int, digests: Mapping[str, str]) -> Row[Any] | None:
    """End a batch whose lines are all in its files, which have these digests, and return its row.

    Return None when lines are missing in its files, or when it ended before.
    """
    found = locked(connection, number)
    if found is None or found.ended_at is not None:
        return None
    if not found.read or found.taken != found.completed + found.failed:
        return None
    for file_id, digest in digests.items():
        files.complete(connection, file_id, digest)
    connection.execute(update(JOBS).where(IS_TO_COLLECT, JOBS.c.batch == number).values(batch=None, line=None))
    now = clock(connection)
    connection.execute(
        update(BATCHES)
        .where(BATCHES.c.number == number)
        .values(
            state=_end_of(connection, found), ended_at=now, finalizing_at=func.coalesce(BATCHES.c.finalizing_at, now)
        )
    )
    ended = connection.execute(select(BATCHES).where(BATCHES.c.number == number)).one()
    _tell(connection, ended)
    return ended


def _tell(connection: Connection, ended: Row[Any]) -> None:
    """Tell who listens, and whom it names itself."""
    event_type = f"batch.{ended.state}"
    callback = BatchCallback.model_validate_json(ended.callback) if ended.callback else None
    if callback is not None and event_type not in callback.wanted:
        callback = None
    deliveries.announce(
        connection,
        tenant=ended.tenant,
        event_type=event_type,
        subject=ended.id,
        data=_counts_of(ended),
        callback=callback,
    )


def _counts_of(ended: Row[Any]) -> dict[str, Any]:
    """Return what webhooks say of a batch's end, beside its id."""
    return {
        "tenant": ended.tenant,
        "status": ended.state,
        "request_counts": {"total": ended.total, "completed": ended.completed, "failed": ended.failed},
        "output_file_id": ended.output_file,
        "error_file_id": ended.error_file,
        "metadata": json.loads(ended.metadata),
    }


def _end_of(connection: Connection, found: Row[Any]) -> str:
    if found.reason is not None:
        return FAILED_WHOLE
    if found.cancelling_at is not None:
        return CANCELLED
    late = select(LINES.c.number).where(LINES.c.batch == found.number, LINES.c.code == BATCH_EXPIRED).limit(1)
    if found.failed and found.expires_at <= clock(connection) and connection.execute(late).first() is not None:
        return EXPIRED
    return COMPLETED if found.completed else FAILED_WHOLE
