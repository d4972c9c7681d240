"""A ledger with jobs in it, made as the bridge makes them: for tests of workers and of the bridge."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.tables import sqlite_tables
from tests.workers.runtime.bridge.records import RULES, accept, record

from headrace_schemas.job import AnyJob
from headrace_workers.core.admission import AdmissionRules
from headrace_workers.core.ledger.claims import Claim, Wanted
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline, ServedModel
from headrace_workers.runtime.bridge.dispatch import Dispatch
from headrace_workers.runtime.wire.taskqueue import TaskQueue


@contextmanager
def sqlite_ledger(folder: Path) -> Iterator[Ledger]:
    ledger = Ledger.at(sqlite_tables(folder / "ledger.db"))
    yield ledger
    ledger.close()


def take_in(ledger: Ledger, jobs: Iterable[AnyJob], rules: AdmissionRules = RULES) -> list[str]:
    """Ingest these jobs, which the rules accept; their ids, in order."""
    accepted = [accept(record(job), rules) for job in jobs]
    new = [item for item in accepted if isinstance(item, NewJob)]
    assert len(new) == len(accepted)
    ledger.ingest(new)
    return [job.id for job in new]


def claim_one(
    ledger: Ledger, queue: str = "model.echo", *, lane: int = 0, limit: int = 32, lease_ms: int = 30_000
) -> Claim | None:
    """The most urgent group of a queue, if there is one."""
    claimed = ledger.claim([Wanted(queue, lane, 1, limit)], lease_ms=lease_ms, sender="bridge")
    return next(iter(claimed.claims), None)


def dispatch(ledger: Ledger, tasks: TaskQueue, **changes: object) -> Dispatch:
    """A bridge's dispatch for the model `echo`, of one job a group, which waits for no company."""
    known = {
        "pipeline": Pipeline(),
        "models": lambda: [ServedModel("echo")],
        "bridge": "b",
        "lease_ms": 30_000,
        "group_size": 1,
        "depth": 2,
        "linger_ms": 0,
    }
    return Dispatch(ledger=ledger, tasks=tasks, **(known | changes))  # type: ignore[arg-type]
