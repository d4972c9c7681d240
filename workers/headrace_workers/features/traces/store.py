"""Jobs that ended, with their steps, in the order of their ends, and the position up to which traces are exported."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Column, Connection, Row, String, Table, select

from headrace_workers.core.sql.database import among, clock, insert, now_ms
from headrace_workers.core.sql.paging import by_bytes
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.core.tables import JOBS, METADATA, STEPS

# One row: the last job whose trace is exported, by the time of its end (ms) and its id.
EXPORTED: Final = Table(
    "traces_exported",
    METADATA,
    Column("what", String(8), primary_key=True),
    Column("ended_at", BigInteger, nullable=False),
    Column("job_id", String(36), nullable=False),
)

AT_ONCE: Final = 200  # jobs
# A job that ended so long ago is committed. A transaction that takes longer is passed over: it lacks a trace.
SETTLED_MS: Final = 5_000
_JOBS: Final = "jobs"


class Exported(NamedTuple):
    """The position in the order of ends."""

    ended_at: int
    job_id: str


class EndedJobs(NamedTuple):
    """Jobs that ended (rows of JOBS), the steps of each, in the order in which they ran, and whether more ended."""

    jobs: Sequence[Row[Any]]
    steps: dict[str, list[Row[Any]]]
    more: bool


def position(connection: Connection) -> Exported:
    """Return how far traces are exported. The first time that is now: what ended before has no trace."""
    here = select(EXPORTED.c.ended_at, EXPORTED.c.job_id).where(EXPORTED.c.what == _JOBS)
    if (row := connection.execute(here).one_or_none()) is not None:
        return Exported._make(row)
    now = Exported(clock(connection), "")
    move(connection, now)
    return now


def move(connection: Connection, to: Exported) -> None:
    """Note how far traces are exported."""
    statement = insert(connection, EXPORTED).values(what=_JOBS, **to._asdict())
    values = {name: statement.excluded[name] for name in Exported._fields}
    connection.execute(statement.on_conflict_do_update(index_elements=["what"], set_=values))


def ended_after(connection: Connection, after: Exported) -> EndedJobs:
    """Return the jobs that ended after a position: a bounded number, and no more than fit into some megabytes."""
    query = select(JOBS).where(
        JOBS.c.ended_at.is_not(None), JOBS.c.ended_at < now_ms() - SETTLED_MS, JOBS.c.subject.is_(None)
    )
    large = (JOBS.c.payload, JOBS.c.terminal)
    jobs, more = by_bytes(connection, query, (JOBS.c.ended_at, JOBS.c.id), after, AT_ONCE, newest=False, large=large)
    steps: dict[str, list[Row[Any]]] = {job.id: [] for job in jobs}
    theirs = among(connection, STEPS.c.job_id, list(steps))
    columns = ("job_id", "stage", "ordinal", "state", "queue", "attempts", "waited_since", "started_at", "ended_at")
    for step in connection.execute(
        select(*(STEPS.c[name] for name in columns)).where(theirs).order_by(STEPS.c.started_at)
    ):
        steps[step.job_id].append(step)
    return EndedJobs(jobs, steps, more)


class Traces(LedgerStore):
    """The position of the export in one ledger. Thread-safe. Methods raise Unavailable if it does not answer."""

    position = durable(position)
    move = durable(move)
    ended_after = reads(ended_after)
