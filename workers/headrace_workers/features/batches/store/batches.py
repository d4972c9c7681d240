"""Batches: files of lines that become jobs, each exactly once, a bounded number at a time.

feeding.py takes lines in, and outputs.py brings their results into files.

Lock order: a batch comes before all that `completion.py` names.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, delete, func, or_, select, update

from headrace_schemas.callback import BatchCallback
from headrace_workers.core.fields import columns
from headrace_workers.core.ledger import cancellation
from headrace_workers.core.sql.database import clock, insert, now_ms
from headrace_workers.core.tables import IS_HELD, IS_TO_COLLECT, IS_UNDER_WAY, JOBS, STEPS
from headrace_workers.features.batches.tables import BATCHES, IS_UNFINISHED, LINES
from headrace_workers.features.webhooks.store import deliveries
from headrace_workers.files.store import files

OPEN: Final = "open"  # its jobs are not finished
REFUSED: Final = "refused"  # it became no job; the error file does not say so yet
DONE: Final = "done"  # its answer is in the output file
FAILED: Final = "failed"  # the error file says why


VALIDATING, IN_PROGRESS, CANCELLING, FINALIZING = "validating", "in_progress", "cancelling", "finalizing"
COMPLETED, FAILED_WHOLE, EXPIRED, CANCELLED = "completed", "failed", "expired", "cancelled"

# Why a line has no answer, beside the categories of dead letters.
DUPLICATE, CONFLICT, BUDGET, QUOTA, LOST = "duplicate_custom_id", "conflict", "budget", "quota", "lost"
BATCH_CANCELLED, BATCH_EXPIRED, BATCH_FAILED = "batch_cancelled", "batch_expired", "batch_failed"
UNREADABLE = -1  # the position in an input that cannot be read on

_FORGOTTEN_AT_ONCE = 5_000  # lines
# Of a batch that is over none is, and nobody looks.
_SHOWN = select(
    BATCHES,
    select(func.count(JOBS.c.line.distinct()))
    .join_from(STEPS, JOBS, STEPS.c.job_id == JOBS.c.id)
    .where(IS_HELD, JOBS.c.batch == BATCHES.c.number, BATCHES.c.ended_at.is_(None))
    .scalar_subquery()
    .label("held"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """A batch to be run. `key` names what was submitted; `window_ms` is how long it may take, and `output_ms` how long
    what comes out is kept. `callback` is whom it tells of its end, as JSON.
    """

    id: str
    tenant: str
    input_file: str
    total: int
    window: str
    window_ms: int
    key: str | None = None
    endpoint: str | None = None
    metadata: str = "{}"
    defaults: str = "{}"
    max_tokens: int | None = None
    output_ms: int | None = None
    callback: str | None = None
    withheld: str | None = None


def create(connection: Connection, new: NewBatch) -> tuple[Row[Any], bool]:
    """Add a batch; return its row, and True if it is new. If the tenant has one under its key, return that one."""
    now = clock(connection)
    row = columns(BATCHES, new, state=VALIDATING, created_at=now, expires_at=now + new.window_ms)
    made = insert(connection, BATCHES).values(row).on_conflict_do_nothing().returning(BATCHES.c.number)
    is_new = connection.execute(made).scalar() is not None
    same = BATCHES.c.id == new.id if is_new else and_(BATCHES.c.tenant == new.tenant, BATCHES.c.key == new.key)
    return connection.execute(_SHOWN.where(same)).one(), is_new


def batch(connection: Connection, batch_id: str, tenant: str | None = None) -> Row[Any] | None:
    """Return a batch with the number of its lines that are `held`; with `tenant`, only that tenant's."""
    query = _SHOWN.where(BATCHES.c.id == batch_id)
    return connection.execute(query if tenant is None else query.where(BATCHES.c.tenant == tenant)).first()


def keyed(connection: Connection, tenant: str, key: str) -> Row[Any] | None:
    """Return the batch that was submitted under this key."""
    return connection.execute(_SHOWN.where(BATCHES.c.tenant == tenant, BATCHES.c.key == key)).first()


def batches(
    connection: Connection, tenant: str | None = None, after: str | None = None, limit: int = 100
) -> list[Row[Any]]:
    """Return all batches or a tenant's, newest first, that come after the batch `after`, each with its number of lines
    that are `held`.
    """
    query = _SHOWN
    if tenant is not None:
        query = query.where(BATCHES.c.tenant == tenant)
    if after is not None and (last := batch(connection, after, tenant)) is not None:
        query = query.where(BATCHES.c.number < last.number)
    return list(connection.execute(query.order_by(BATCHES.c.number.desc()).limit(limit)))


def add_crashes(connection: Connection, number: int, count: int) -> None:
    """Add to the number of bridges that ended while they read the input of a batch."""
    # Below 0 it would come where another bridge got further meanwhile.
    here = update(BATCHES).where(BATCHES.c.number == number, BATCHES.c.crashes + count >= 0)
    connection.execute(here.values(crashes=BATCHES.c.crashes + count))


def unfinished(connection: Connection) -> list[Row[Any]]:
    """Return the batches that are not over, oldest first."""
    return list(connection.execute(select(BATCHES).where(IS_UNFINISHED).order_by(BATCHES.c.number)))


def open_lines(connection: Connection) -> dict[str, int]:
    """Return how many lines the batches that have not ended have, by their state."""
    names = ("total", "taken", "completed", "failed")
    sums = (func.coalesce(func.sum(BATCHES.c[name]), 0) for name in names)
    total, taken, completed, failed = map(int, connection.execute(select(*sums).where(IS_UNFINISHED)).one())
    return {
        "waiting": max(0, total - taken),
        "running": max(0, taken - completed - failed),
        "completed": completed,
        "failed": failed,
    }


def locked(connection: Connection, number: int) -> Row[Any] | None:
    """A batch, which nobody else changes until this transaction ends."""
    query = select(BATCHES).where(BATCHES.c.number == number)
    return connection.execute(query.with_for_update()).first()


def request_cancel(connection: Connection, batch_id: str, tenant: str | None = None) -> Row[Any] | None:
    """Request that a batch be cancelled, unless it is over. Return its row, or None if there is no such batch."""
    mine = BATCHES.c.id == batch_id
    if tenant is not None:
        mine &= BATCHES.c.tenant == tenant
    connection.execute(
        update(BATCHES)
        .where(mine, BATCHES.c.state.in_((VALIDATING, IN_PROGRESS)))
        .values(state=CANCELLING, cancelling_at=now_ms())
    )
    return batch(connection, batch_id, tenant)


def users_of_file(file_id: str | ColumnElement[str]) -> Select[str]:
    """Return the query of the batches that have not ended, and read or write this file."""
    theirs = (BATCHES.c.input_file == file_id, BATCHES.c.output_file == file_id, BATCHES.c.error_file == file_id)
    return select(BATCHES.c.id).where(IS_UNFINISHED, or_(*theirs))


def lines(
    connection: Connection, number: int, *, after: int = 0, limit: int = 1_000, state: str | None = None
) -> list[Row[Any]]:
    """Return lines of a batch after this one, in order: number, custom_id, state, code, reason, param."""
    columns = (LINES.c.number, LINES.c.custom_id, LINES.c.state, LINES.c.code, LINES.c.reason, LINES.c.param)
    query = select(*columns).where(LINES.c.batch == number, LINES.c.number > after)
    if state is not None:
        query = query.where(LINES.c.state == state)
    return list(connection.execute(query.order_by(LINES.c.number).limit(limit)))


def codes(connection: Connection, number: int) -> Counter[str]:
    """Return how many lines of a batch failed, by code."""
    query = select(LINES.c.code, func.count()).where(LINES.c.batch == number, LINES.c.code.is_not(None))
    return Counter(dict(iter(connection.execute(query.group_by(LINES.c.code)))))


def forget(connection: Connection, older_than_ms: int) -> bool:
    """Forget a bounded part of a batch that ended long ago and whose files are gone. Return True if there is more."""
    files_are_there = files.is_there(BATCHES.c.output_file, BATCHES.c.error_file)
    old = select(BATCHES.c.number).where(BATCHES.c.ended_at < now_ms() - older_than_ms, ~files_are_there)
    number = connection.execute(old.order_by(BATCHES.c.ended_at).limit(1)).scalar()
    if number is None:
        return False
    first = select(func.min(LINES.c.number)).where(LINES.c.batch == number)
    start = connection.execute(first).scalar()
    if start is not None:
        gone = and_(LINES.c.batch == number, LINES.c.number < start + _FORGOTTEN_AT_ONCE)
        connection.execute(delete(LINES).where(gone))
    else:
        connection.execute(delete(BATCHES).where(BATCHES.c.number == number))
    return True


def lately(connection: Connection, stage: str, limit: int) -> list[Row[Any]]:
    """Return the generation jobs that were answered last: payload, terminal, started_at, ended_at of the stage (ms)."""
    ran = and_(STEPS.c.job_id == JOBS.c.id, STEPS.c.stage == stage, STEPS.c.state == "done")
    last = (
        select(JOBS.c.id, JOBS.c.ended_at)
        .where(JOBS.c.ended_at.is_not(None))
        .order_by(JOBS.c.ended_at.desc())
        .limit(limit)
        .subquery()
    )
    query = (
        select(JOBS.c.payload, JOBS.c.terminal, STEPS.c.started_at, STEPS.c.ended_at)
        .select_from(last.join(JOBS, JOBS.c.id == last.c.id).join(STEPS, ran))
        .where(JOBS.c.state == "done", JOBS.c.kind == "generation", JOBS.c.subject.is_(None))
    )
    return list(connection.execute(query))


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
    row = locked(connection, number)
    if row is None or row.ended_at is not None:
        return None
    if not row.read or row.taken != row.completed + row.failed:
        return None
    for file_id, digest in digests.items():
        files.complete(connection, file_id, digest)
    connection.execute(update(JOBS).where(IS_TO_COLLECT, JOBS.c.batch == number).values(batch=None, line=None))
    now = clock(connection)
    connection.execute(
        update(BATCHES)
        .where(BATCHES.c.number == number)
        .values(state=_end_of(connection, row), ended_at=now, finalizing_at=func.coalesce(BATCHES.c.finalizing_at, now))
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
