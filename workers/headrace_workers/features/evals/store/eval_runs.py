"""Writes of the bridge about runs of evals: their items, how far a batch's answers are read, and their ends."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, delete, func, select, update

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.core.sql import driver_statements
from headrace_workers.core.sql.database import clock, insert_many, many, now_ms
from headrace_workers.features.evals.states import CANCELED, CANCELING, COMPLETED, ERROR, FAILED, IN_PROGRESS, QUEUED
from headrace_workers.features.evals.tables import IS_OPEN, ITEMS, RUNS
from headrace_workers.features.webhooks.store import deliveries

_FORGOTTEN_AT_ONCE = 2_000  # items
_EVENTS = {COMPLETED: "eval.run.succeeded", FAILED: "eval.run.failed", CANCELED: "eval.run.canceled"}


class ReadBefore(HeadraceError):
    """Another process has read these answers meanwhile, and nothing was written."""

    category = Category.TRANSIENT


@dataclass(frozen=True, slots=True)
class NewItem:
    """A row of a run's data. An item that makes no job has its status and the reason at once."""

    number: int
    item: str
    status: str | None = None
    sample: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """The result of an item."""

    number: int
    status: str
    sample: str
    results: str


def read_again(connection: Connection, batch_id: str, is_output: bool) -> None:
    """Let the run that this batch belongs to read the batch's output, or its errors, from the beginning."""
    read = RUNS.c.output_read if is_output else RUNS.c.errors_read
    connection.execute(update(RUNS).where(RUNS.c.batch == batch_id).values({read: 0}))


def unfinished(connection: Connection) -> list[Row[Any]]:
    """Return the runs that are not over, oldest first."""
    return list(connection.execute(select(RUNS).where(IS_OPEN).order_by(RUNS.c.number)))


def put_items(connection: Connection, run: int, items: Sequence[NewItem], size: int) -> None:
    """Add items, a few hundred, to a run that has `size` bytes with them. Existing items stay unchanged."""
    now = clock(connection)
    connection.execute(update(RUNS).where(RUNS.c.number == run).values(bytes=size))
    rows = [
        {
            "run": run,
            "number": each.number,
            "item": each.item,
            "status": each.status,
            "sample": each.sample,
            "created_at": now,
        }
        for each in items
    ]
    if rows:
        dialect = connection.dialect.name
        driver_statements.run(connection, _new_items(dialect), many(dialect, rows))


@lru_cache
def _new_items(dialect: str) -> Any:
    columns = [ITEMS.c[name] for name in ("run", "number", "item", "status", "sample", "created_at")]
    return insert_many(dialect, ITEMS, columns, {}).on_conflict_do_nothing()


def begin(connection: Connection, run: int, batch: str | None, total: int, tally: Mapping[str, Any]) -> None:
    """Begin a run whose items are all written. `batch` carries the jobs of its items."""
    state = case((RUNS.c.state == QUEUED, IN_PROGRESS), else_=RUNS.c.state)
    fresh = update(RUNS).where(RUNS.c.number == run, RUNS.c.batch.is_(None), IS_OPEN)
    connection.execute(fresh.values(state=state, batch=batch, total=total, tally=json.dumps(tally)))


def open_items(connection: Connection, run: int, numbers: Sequence[int]) -> dict[int, str]:
    """Return the data of these items that have not ended yet, as JSON, by number."""
    query = select(ITEMS.c.number, ITEMS.c.item).where(ITEMS.c.run == run, ITEMS.c.number.in_(numbers))
    rows = connection.execute(query.where(ITEMS.c.status.is_(None)))
    return {row.number: row.item for row in rows}


def put_ends(
    connection: Connection, run: Row[Any], ends: Sequence[Judged], read: Mapping[str, int], tally: Mapping[str, Any]
) -> None:
    """Record results of items, and how far the batch's files are read. Raise ReadBefore if another process did so."""
    mine = update(RUNS).where(
        RUNS.c.number == run.number,
        RUNS.c.output_read == run.output_read,
        RUNS.c.errors_read == run.errors_read,
        IS_OPEN,
    )
    size = RUNS.c.bytes + sum(len(each.sample) + len(each.results) for each in ends)
    if connection.execute(mine.values(tally=json.dumps(tally), bytes=size, **read)).rowcount != 1:
        raise ReadBefore(f"the results of {run.id} have been read meanwhile")
    if ends:
        place = update(ITEMS).where(ITEMS.c.run == run.number, ITEMS.c.number == bindparam("at"))
        values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in ("status", "sample", "results")}
        connection.execute(
            place.values(**values),
            [
                {"at": each.number, "new_status": each.status, "new_sample": each.sample, "new_results": each.results}
                for each in ends
            ],
        )


def finish(
    connection: Connection, run: int, state: str, reason: str | None, lost: Mapping[str, Any]
) -> Row[Any] | None:
    """End a run, announce it, and return its row; None if it was over. Items without a result get `lost`."""
    found = update(RUNS).where(RUNS.c.number == run, IS_OPEN)
    ended = connection.execute(
        found.values(state=state, reason=reason, ended_at=now_ms()).returning(RUNS.c.number)
    ).first()
    if ended is None:
        return None
    open_items = update(ITEMS).where(ITEMS.c.run == run, ITEMS.c.status.is_(None))
    connection.execute(open_items.values(status=ERROR, sample=json.dumps(lost), results="[]"))
    row = connection.execute(select(RUNS).where(RUNS.c.number == run)).one()
    deliveries.announce(
        connection,
        tenant=row.tenant,
        event_type=_EVENTS[state],
        subject=row.id,
        data={"tenant": row.tenant, "eval_id": row.eval_id, "status": state, "metadata": json.loads(row.metadata)},
    )
    return row


def count(connection: Connection, run: int, status: str | None) -> int:
    """Return how many items of a run have this status."""
    query = select(func.count()).select_from(ITEMS).where(ITEMS.c.run == run, ITEMS.c.status == status)
    return int(connection.execute(query).scalar_one())


def request_cancel(connection: Connection, run_id: str, tenant: str) -> None:
    """Request that a run be cancelled, unless it is over."""
    mine = update(RUNS).where(RUNS.c.id == run_id, RUNS.c.tenant == tenant, RUNS.c.state.in_((QUEUED, IN_PROGRESS)))
    connection.execute(mine.values(state=CANCELING))


def forget(connection: Connection) -> bool:
    """Forget a bounded part of a run that was removed. Return True if there is more."""
    query = select(RUNS.c.number).where(RUNS.c.removed_at.is_not(None)).order_by(RUNS.c.removed_at).limit(1)
    run = connection.execute(query).scalar()
    if run is None:
        return False
    some = select(ITEMS.c.number).where(ITEMS.c.run == run).order_by(ITEMS.c.number).limit(_FORGOTTEN_AT_ONCE)
    numbers = list(connection.execute(some).scalars())
    if numbers:
        connection.execute(delete(ITEMS).where(ITEMS.c.run == run, ITEMS.c.number <= numbers[-1]))
    else:
        connection.execute(delete(RUNS).where(RUNS.c.number == run))
    return True
