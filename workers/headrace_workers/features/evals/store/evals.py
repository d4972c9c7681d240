"""Evals, their runs and items, as the ledger keeps them. Each method is one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, select, update

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.core.sql.by_bytes import Part, by_bytes
from headrace_workers.core.sql.database import alone, clock, now_ms, reading, writing
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.core.sql.transactions import durable, reads
from headrace_workers.features.evals.states import QUEUED
from headrace_workers.features.evals.store import eval_runs
from headrace_workers.features.evals.store.eval_limits import EvalBounds, check_bytes, check_eval, check_run
from headrace_workers.features.evals.tables import EVALS, IS_OPEN, ITEMS, RUNS

_NO_BOUNDS: Final = EvalBounds()
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

    def create(self, new: NewEval, bounds: EvalBounds = _NO_BOUNDS) -> Row[Any]:
        """Add an eval, and return its row. Raise TooManyEvals at a limit."""
        with writing(self._engine) as tx:
            alone(tx, _counted(new.tenant))
            check_eval(tx, new.tenant, bounds)
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
            return by_bytes(tx, query, keys, _place(keys, last), limit, newest=newest, large=_LARGE_OF_EVALS)

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
            if (found := _eval(tx, eval_id, tenant)) is None:
                return
            if running := tx.execute(select(RUNS.c.id).where(RUNS.c.eval == found.number, IS_OPEN).limit(1)).scalar():
                raise StillRuns(f"{running} has not ended: cancel it first, or wait for it")
            tx.execute(update(RUNS).where(RUNS.c.eval == found.number).values(removed_at=now_ms()))
            tx.execute(delete(EVALS).where(EVALS.c.number == found.number))

    # -- runs

    check_run = reads(check_run)

    def start(self, eval_id: str, tenant: str, new: NewRun, bounds: EvalBounds = _NO_BOUNDS) -> Row[Any] | None:
        """Add a run, which a bridge begins; return its row, or None if the eval is gone. TooManyEvals at a limit."""
        with writing(self._engine) as tx:
            alone(tx, _counted(tenant))
            check_run(tx, tenant, bounds)
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
            return by_bytes(tx, query, keys, _place(keys, last), limit, newest=newest, large=_LARGE_OF_RUNS)

    def cancel(self, eval_id: str, run_id: str, tenant: str) -> Row[Any] | None:
        """Request that a run be cancelled, unless it is over, and return its row."""
        with writing(self._engine) as tx:
            eval_runs.request_cancel(tx, run_id, tenant)
            return _run(tx, eval_id, run_id, tenant)

    def remove_run(self, eval_id: str, run_id: str, tenant: str) -> None:
        """Remove a run with its items. Raise StillRuns while it runs."""
        with writing(self._engine) as tx:
            found = _run(tx, eval_id, run_id, tenant)
            if found is not None and found.ended_at is None:
                raise StillRuns(f"{run_id} has not ended: cancel it first, or wait for it")
            if found is not None:
                tx.execute(update(RUNS).where(RUNS.c.number == found.number).values(removed_at=now_ms()))

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

    unfinished = reads(eval_runs.unfinished)

    def add_crashes(self, run: int, count: int) -> None:
        """Add to the number of bridges that ended while they read the rows of a run."""
        with writing(self._engine) as tx:
            tx.execute(update(RUNS).where(RUNS.c.number == run).values(crashes=RUNS.c.crashes + count))

    check_bytes = reads(check_bytes)
    put_items = durable(eval_runs.put_items)
    begin = durable(eval_runs.begin)
    open_items = reads(eval_runs.open_items)
    put_ends = durable(eval_runs.put_ends)
    finish = durable(eval_runs.finish)
    count = reads(eval_runs.count)
    forget = durable(eval_runs.forget)


def _counted(tenant: str) -> str:
    return f"evals of {tenant}"


def _size(values: Mapping[str, Any]) -> int:
    """Return the approximate bytes of a row: most of its text is ASCII."""
    return sum(len(each) for each in values.values() if isinstance(each, str))


def _eval(connection: Connection, eval_id: str, tenant: str) -> Row[Any] | None:
    return connection.execute(select(EVALS).where(EVALS.c.id == eval_id, EVALS.c.tenant == tenant)).first()


def _run(connection: Connection, eval_id: str, run_id: str, tenant: str) -> Row[Any] | None:
    query = select(RUNS).where(RUNS.c.id == run_id, RUNS.c.eval_id == eval_id, RUNS.c.tenant == tenant)
    return connection.execute(query.where(RUNS.c.removed_at.is_(None))).first()


def _place(keys: Sequence[Any], row: Row[Any] | None) -> tuple[Any, ...] | None:
    return None if row is None else tuple(getattr(row, each.key) for each in keys)
