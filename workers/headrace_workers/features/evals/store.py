"""Evals, their runs and items, as the ledger keeps them. Each method is one transaction."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, case, delete, func, select, update

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.core.sql import statements
from headrace_workers.core.sql.database import alone, clock, insert_many, many, now_ms, reading, writing
from headrace_workers.core.sql.paging import Part, by_bytes
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.features.evals.run_state import CANCELED, CANCELING, COMPLETED, ERROR, FAILED, IN_PROGRESS, QUEUED
from headrace_workers.features.evals.tables import EVALS, IS_OPEN, ITEMS, RUNS
from headrace_workers.features.webhooks.store import deliveries

# Limits of a tenant's evals: their number, runs at a time, bytes that are kept. 0 is no limit.
#
# A transaction that adds one counts after `alone`, so that two at one moment do not both find the last place.


class TooManyEvals(HeadraceError):
    """A limit of a tenant's evals, of its runs at a time, or of their bytes is reached."""

    category = Category.QUOTA


# Limits of a tenant.
_MOST_EVALS = 1_000
_MOST_RUNS = 20  # that have not ended
_MOST_BYTES = 5_000_000_000  # of evals and runs, with their rows and results


def check_eval(connection: Connection, tenant: str) -> None:
    """Raise TooManyEvals unless the tenant may have one more eval."""
    if (there := _count(connection, EVALS, EVALS.c.tenant == tenant)) >= _MOST_EVALS:
        raise TooManyEvals(f"the tenant {tenant} has {there:,} evals, and may have {_MOST_EVALS:,}: delete some")
    check_bytes(connection, tenant)


def check_run(connection: Connection, tenant: str) -> None:
    """Raise TooManyEvals unless the tenant may have one more run under way."""
    if (there := _count(connection, RUNS, RUNS.c.tenant == tenant, IS_OPEN)) >= _MOST_RUNS:
        raise TooManyEvals(
            f"the tenant {tenant} has {there:,} runs of evals that have not ended, and may have {_MOST_RUNS:,} "
            "at a time: wait for one to end, or cancel one"
        )
    check_bytes(connection, tenant)


def check_bytes(connection: Connection, tenant: str) -> None:
    """Raise TooManyEvals unless the tenant may keep more bytes."""
    of_evals = select(func.coalesce(func.sum(EVALS.c.bytes), 0)).where(EVALS.c.tenant == tenant)
    of_runs = select(func.coalesce(func.sum(RUNS.c.bytes), 0)).where(
        RUNS.c.tenant == tenant, RUNS.c.removed_at.is_(None)
    )
    kept = int(connection.execute(of_evals).scalar_one()) + int(connection.execute(of_runs).scalar_one())
    if kept >= _MOST_BYTES:
        raise TooManyEvals(
            f"evals of the tenant {tenant} and their runs keep {kept:,} bytes, and may keep {_MOST_BYTES:,}: "
            "delete runs or evals that are not needed any more"
        )


def _count(connection: Connection, table: Any, *conditions: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one())


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
    rows = [{"run": run, "created_at": now, **asdict(item)} for item in items]
    if rows:
        dialect = connection.dialect.name
        statements.run(connection, _new_items(dialect), many(dialect, rows))


@lru_cache
def _new_items(dialect: str) -> Any:
    columns = [ITEMS.c[name] for name in ("run", "number", "item", "status", "sample", "created_at")]
    return insert_many(dialect, ITEMS, columns, {}).on_conflict_do_nothing()


def begin_run(connection: Connection, run: int, batch: str | None, total: int, tally: Mapping[str, Any]) -> None:
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
    size = RUNS.c.bytes + sum(len(end.sample) + len(end.results) for end in ends)
    if connection.execute(mine.values(tally=json.dumps(tally), bytes=size, **read)).rowcount != 1:
        raise ReadBefore(f"the results of {run.id} have been read meanwhile")
    if ends:
        place = update(ITEMS).where(ITEMS.c.run == run.number, ITEMS.c.number == bindparam("at"))
        values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in ("status", "sample", "results")}
        connection.execute(
            place.values(**values),
            [
                {"at": end.number, "new_status": end.status, "new_sample": end.sample, "new_results": end.results}
                for end in ends
            ],
        )


def finish_run(
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


def items_after(connection: Connection, tenant: str, after: tuple[int, int], limit: int) -> Sequence[Row[Any]]:
    """Return the next items of the tenant's runs after a run and a number, with the id of their eval."""
    run, number = ITEMS.c.run, ITEMS.c.number
    columns = [run, number, ITEMS.c.item, RUNS.c.eval_id]
    query = (
        select(*columns)
        .join(RUNS, RUNS.c.number == run)
        .where(RUNS.c.tenant == tenant, (run > after[0]) | ((run == after[0]) & (number > after[1])))
    )
    return connection.execute(query.order_by(run, number).limit(limit)).all()


def count_items(connection: Connection, run: int, status: str | None) -> int:
    """Return how many items of a run have this status."""
    query = select(func.count()).select_from(ITEMS).where(ITEMS.c.run == run, ITEMS.c.status == status)
    return int(connection.execute(query).scalar_one())


def request_cancel(connection: Connection, run_id: str, tenant: str) -> None:
    """Request that a run be cancelled, unless it is over."""
    mine = update(RUNS).where(RUNS.c.id == run_id, RUNS.c.tenant == tenant, RUNS.c.state.in_((QUEUED, IN_PROGRESS)))
    connection.execute(mine.values(state=CANCELING))


def forget_items(connection: Connection) -> bool:
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


_LARGE_OF_EVALS: Final = (EVALS.c.data_source_config, EVALS.c.testing_criteria, EVALS.c.metadata)
_LARGE_OF_RUNS: Final = (RUNS.c.testing_criteria, RUNS.c.data_source, RUNS.c.metadata, RUNS.c.tally)
_LARGE_OF_ITEMS: Final = (ITEMS.c.item, ITEMS.c.sample, ITEMS.c.results)


class StillRuns(HeadraceError):
    """A run has not ended that is to be removed, or whose eval is."""

    category = Category.CONFLICT


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEval:
    """An eval to be written down. The texts are JSON."""

    id: str
    tenant: str
    name: str
    data_source_config: str
    testing_criteria: str
    metadata: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to be written down. The texts are JSON."""

    id: str
    name: str
    data_source: str
    metadata: str


class Evals(LedgerStore):
    """The evals of one ledger. Thread-safe. Unavailable when the database does not answer."""

    def create(self, new: NewEval) -> Row[Any]:
        """Add an eval, and return its row. Raise TooManyEvals at a limit."""
        with writing(self._engine) as tx:
            alone(tx, _counted(new.tenant))
            check_eval(tx, new.tenant)
            now, values = clock(tx), asdict(new)
            tx.execute(EVALS.insert().values(**values, created_at=now, updated_at=now, bytes=_size(values)))
            return tx.execute(select(EVALS).where(EVALS.c.id == new.id)).one()

    def eval(self, eval_id: str, tenant: str) -> Row[Any] | None:
        """Return an eval of this tenant."""
        with reading(self._engine) as tx:
            return _eval(tx, eval_id, tenant)

    def evals(self, tenant: str, *, after: str | None, limit: int, newest: bool, by_change: bool) -> Part:
        """Return a tenant's evals by age or by their last change, starting after the eval `after`."""
        keys = (EVALS.c.updated_at, EVALS.c.number) if by_change else (EVALS.c.number,)
        with reading(self._engine) as tx:
            last = None if after is None else _eval(tx, after, tenant)
            query = select(EVALS).where(EVALS.c.tenant == tenant)
            return by_bytes(tx, query, keys, _cursor(keys, last), limit, newest=newest, large=_LARGE_OF_EVALS)

    def change(self, eval_id: str, tenant: str, values: Mapping[str, str]) -> Row[Any] | None:
        """Change the name or the metadata of an eval, and return its row; None if there is no such eval."""
        with writing(self._engine) as tx:
            mine = update(EVALS).where(EVALS.c.id == eval_id, EVALS.c.tenant == tenant)
            tx.execute(mine.values(**values, updated_at=now_ms()))
            return _eval(tx, eval_id, tenant)

    def remove(self, eval_id: str, tenant: str) -> None:
        """Remove an eval with all its runs. Raise StillRuns while one of them runs."""
        with writing(self._engine) as tx:
            alone(tx, _counted(tenant))  # a run may be starting
            if (row := _eval(tx, eval_id, tenant)) is None:
                return
            if running := tx.execute(select(RUNS.c.id).where(RUNS.c.eval == row.number, IS_OPEN).limit(1)).scalar():
                raise StillRuns(f"{running} has not ended: cancel it first, or wait for it")
            tx.execute(update(RUNS).where(RUNS.c.eval == row.number).values(removed_at=now_ms()))
            tx.execute(delete(EVALS).where(EVALS.c.number == row.number))

    # -- runs

    check_run = reads(check_run)

    def start(self, eval_id: str, tenant: str, new: NewRun) -> Row[Any] | None:
        """Add a run, which a bridge begins; return its row, or None if the eval is gone. TooManyEvals at a limit."""
        with writing(self._engine) as tx:
            alone(tx, _counted(tenant))
            check_run(tx, tenant)
            of = _eval(tx, eval_id, tenant)
            if of is None:
                return None
            values = {
                **asdict(new), "eval": of.number, "eval_id": of.id, "tenant": tenant,
                "testing_criteria": of.testing_criteria, "state": QUEUED, "created_at": clock(tx),
            }  # fmt: skip
            tx.execute(RUNS.insert().values(**values, bytes=_size(values)))
            return tx.execute(select(RUNS).where(RUNS.c.id == new.id)).one()

    def run(self, eval_id: str, run_id: str, tenant: str) -> Row[Any] | None:
        """Return a run of this tenant's eval."""
        with reading(self._engine) as tx:
            return _run(tx, eval_id, run_id, tenant)

    def runs(
        self, eval_id: str, tenant: str, *, after: str | None, limit: int, newest: bool, state: str | None
    ) -> Part:
        """Return the runs of an eval by age, starting after the run `after`."""
        with reading(self._engine) as tx:
            last = None if after is None else _run(tx, eval_id, after, tenant)
            query = select(RUNS).where(RUNS.c.eval_id == eval_id, RUNS.c.tenant == tenant, RUNS.c.removed_at.is_(None))
            if state is not None:
                query = query.where(RUNS.c.state == state)
            keys = (RUNS.c.number,)
            return by_bytes(tx, query, keys, _cursor(keys, last), limit, newest=newest, large=_LARGE_OF_RUNS)

    def cancel(self, eval_id: str, run_id: str, tenant: str) -> Row[Any] | None:
        """Request that a run be cancelled, unless it is over, and return its row."""
        with writing(self._engine) as tx:
            request_cancel(tx, run_id, tenant)
            return _run(tx, eval_id, run_id, tenant)

    def remove_run(self, eval_id: str, run_id: str, tenant: str) -> None:
        """Remove a run with its items. Raise StillRuns while it runs."""
        with writing(self._engine) as tx:
            row = _run(tx, eval_id, run_id, tenant)
            if row is not None and row.ended_at is None:
                raise StillRuns(f"{run_id} has not ended: cancel it first, or wait for it")
            if row is not None:
                tx.execute(update(RUNS).where(RUNS.c.number == row.number).values(removed_at=now_ms()))

    def items(
        self, run: int, *, after: int | None, limit: int, newest: bool = False, status: str | None = None
    ) -> Part:
        """Return the items of a run that have ended, in order, those after the item `after`."""
        query = select(ITEMS).where(ITEMS.c.run == run)
        query = query.where(ITEMS.c.status.is_not(None) if status is None else ITEMS.c.status == status)
        behind = None if after is None else (after,)
        with reading(self._engine) as tx:
            return by_bytes(tx, query, (ITEMS.c.number,), behind, limit, newest=newest, large=_LARGE_OF_ITEMS)

    def item(self, run: int, number: int) -> Row[Any] | None:
        """Return an item, or None while it has not ended."""
        query = select(ITEMS).where(ITEMS.c.run == run, ITEMS.c.number == number, ITEMS.c.status.is_not(None))
        with reading(self._engine) as tx:
            return tx.execute(query).first()

    # -- the bridge

    unfinished = reads(unfinished)

    def add_crashes(self, run: int, count: int) -> None:
        """Add to the number of bridges that ended while they read the rows of a run."""
        with writing(self._engine) as tx:
            tx.execute(update(RUNS).where(RUNS.c.number == run).values(crashes=RUNS.c.crashes + count))

    check_bytes = reads(check_bytes)
    put_items = durable(put_items)
    begin = durable(begin_run)
    open_items = reads(open_items)
    put_ends = durable(put_ends)
    finish = durable(finish_run)
    count = reads(count_items)
    forget = durable(forget_items)


def _counted(tenant: str) -> str:
    return f"evals of {tenant}"


def _size(values: Mapping[str, Any]) -> int:
    """Return the approximate bytes of a row: most of its text is ASCII."""
    return sum(len(value) for value in values.values() if isinstance(value, str))


def _eval(connection: Connection, eval_id: str, tenant: str) -> Row[Any] | None:
    return connection.execute(select(EVALS).where(EVALS.c.id == eval_id, EVALS.c.tenant == tenant)).first()


def _run(connection: Connection, eval_id: str, run_id: str, tenant: str) -> Row[Any] | None:
    query = select(RUNS).where(RUNS.c.id == run_id, RUNS.c.eval_id == eval_id, RUNS.c.tenant == tenant)
    return connection.execute(query.where(RUNS.c.removed_at.is_(None))).first()


def _cursor(keys: Sequence[Any], row: Row[Any] | None) -> tuple[Any, ...] | None:
    return None if row is None else tuple(getattr(row, key.key) for key in keys)
