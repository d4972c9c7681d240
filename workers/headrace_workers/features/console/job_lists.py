"""Lists of jobs, newest first: pages by keys, along the indexes of unfinished and of ended jobs, with a bound on the
rows that a page reads. The ended jobs of a tenant have a table of their own, which the accounting fills: so a tenant
with few jobs among millions of others' finds them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Row,
    Select,
    String,
    Table,
    delete,
    func,
    select,
    tuple_,
)

from headrace_workers.core.ledger.accounting import FinishedJob, accounted_until
from headrace_workers.core.pipeline.stage import model_of, model_queue
from headrace_workers.core.sql.database import among, insert_many, many
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.core.tables import IS_ACTIVE, JOBS, METADATA, STEPS

# The ended jobs of each tenant, by the time of their ends. Of a job that was replayed it has the end that was accounted
# for, which is the present one or an earlier one.
ENDED_JOBS: Final = Table(
    "console_ended_jobs",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Index("console_ended_jobs_of_tenant", "tenant", "ended_at"),
)

PAGE: Final = 50
MOST_READ: Final = 10_000  # rows for one page
MOST_PASSED: Final = 20_000  # where most of them are other tenants', and only passed over
MOST_LOOKED_UP: Final = 2_000  # where each is looked up by its id, here or among the steps
UNFINISHED: Final = "unfinished"
ENDED: Final = "ended"
STATES: Final = (UNFINISHED, ENDED, "done", "dead", "cancelled")


class Place(NamedTuple):
    """A place in a list: what follows is older."""

    at: int
    job_id: str

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return the place that an address holds; None for none."""
        at, _, job_id = text.partition("-")
        return cls(int(at), job_id) if at.isdecimal() and len(at) < len("9" * 16) else None

    def __str__(self) -> str:
        return f"{self.at}-{self.job_id}"


@dataclass(frozen=True, slots=True)
class JobFilter:
    """The jobs of a list. Absent conditions hold for all. `application` is a name, with its version or without."""

    state: str
    tenant: str | None = None
    model: str | None = None
    application: str | None = None


@dataclass(frozen=True, slots=True)
class JobList:
    """A page of jobs, each with the models whose queues it was in. `after` leads to older jobs; `read` rows were read
    for it, and with `stopped` there may be more on what is left unread.
    """

    jobs: Sequence[tuple[Row[Any], Sequence[str]]]
    after: Place | None
    read: int
    stopped: bool


def list_jobs(connection: Connection, wanted: JobFilter, after: Place | None = None) -> JobList:
    """Return a page of the list after a place."""
    found: list[Row[Any]] = []
    read = 0
    for walk, times, most in _walks(connection, wanted, after):
        rows = walk.limit(most).subquery("walk")
        fitting = select(rows).where(*_fits(rows.c, wanted)).order_by(rows.c.at.desc(), rows.c.id.desc())
        found += connection.execute(fitting.limit(PAGE + 1 - len(found))).all()
        if len(found) > PAGE:
            shown = found[:PAGE]
            return JobList(_lines(connection, shown), Place(shown[-1].at, shown[-1].id), read, stopped=False)
        at = times.limit(most).subquery("times").c.at
        count, last = connection.execute(select(func.count(), func.min(at))).one()
        read += count
        if count >= most:
            # The last row may be another tenant's, so its id is not told; rows of the same moment are read again.
            at_same = after is not None and after.at == last
            place = Place(last, "" if at_same else "~")
            return JobList(_lines(connection, found), place, read, stopped=True)
    return JobList(_lines(connection, found), None, read, stopped=False)


def _walks(
    connection: Connection, wanted: JobFilter, after: Place | None
) -> Iterator[tuple[Select[Any], Select[Any], int]]:
    """Yield queries whose rows are the list, one after the other, and other jobs between them. With each comes the
    query of its times alone, and how many of its rows a page reads.
    """
    is_open = wanted.state == UNFINISHED
    time = JOBS.c.accepted_at if is_open else JOBS.c.ended_at
    walk = _walk(time, JOBS.c.id, after).where(IS_ACTIVE if is_open else time.is_not(None))
    most = MOST_LOOKED_UP if wanted.model is not None else MOST_READ if wanted.tenant is None else MOST_PASSED
    version = wanted.application if wanted.application is not None and "@" in wanted.application else None
    until = 0
    if version is not None and not is_open:
        walk, most = walk.where(JOBS.c.application == version), min(most, MOST_READ)  # which has an index
    elif wanted.tenant is not None and not is_open:
        until = accounted_until(connection)
        walk = walk.where(time > until)
    if after is None or after.at > until:
        yield walk, walk.with_only_columns(time.label("at")), most
    if until:
        job_id, at = ENDED_JOBS.c.job_id, ENDED_JOBS.c.ended_at
        older = _walk(at, job_id, after).where(ENDED_JOBS.c.tenant == wanted.tenant, at <= until)
        joined = older.join_from(ENDED_JOBS, JOBS, job_id == JOBS.c.id)
        yield joined, older.with_only_columns(at.label("at")), MOST_LOOKED_UP


def _walk(time: Column[Any], job_id: Column[Any], after: Place | None) -> Select[Any]:
    columns = (JOBS.c[name] for name in ("id", "tenant", "kind", "state", "application", "accepted_at", "ended_at"))
    query = select(*columns, JOBS.c.subject, time.label("at")).order_by(time.desc(), job_id.desc())
    if after is None:
        return query
    return query.where(time <= after.at, tuple_(time, job_id) < tuple(after))


def _fits(row: Any, wanted: JobFilter) -> Iterator[ColumnElement[bool]]:
    yield row.subject.is_(None)
    if wanted.state != UNFINISHED:
        yield row.ended_at == row.at  # a job that was replayed has another end by now, or none
    if wanted.tenant is not None:
        yield row.tenant == wanted.tenant
    if wanted.state not in (UNFINISHED, ENDED):
        yield row.state == wanted.state
    if wanted.application is not None:
        any_version = row.application.startswith(f"{wanted.application}@", autoescape=True)
        yield any_version | (row.application == wanted.application)
    if wanted.model is not None:
        queue = model_queue(wanted.model)
        yield select(STEPS.c.job_id).where(STEPS.c.job_id == row.id, STEPS.c.queue == queue).exists()


def _lines(connection: Connection, rows: Sequence[Row[Any]]) -> list[tuple[Row[Any], Sequence[str]]]:
    """Return the jobs, each with the models in whose queues it was, in order."""
    models: dict[str, set[str]] = {}
    if rows:
        query = select(STEPS.c.job_id, STEPS.c.queue).where(among(connection, STEPS.c.job_id, [row.id for row in rows]))
        for job_id, queue in connection.execute(query):
            if model := model_of(queue):
                models.setdefault(job_id, set()).add(model)
    return [(row, sorted(models.get(row.id, ()))) for row in rows]


def note_ended(connection: Connection, jobs: Sequence[FinishedJob]) -> None:
    """Enter jobs that have ended. A job that was replayed has its last end."""
    rows = {
        job_id: {"job_id": job_id, "tenant": job.tenant, "ended_at": job.ended_at}
        for job in jobs
        if (job_id := job.result.get("job_id")) is not None  # what a unit has told has none
    }
    if rows:
        statement = insert_many(connection.dialect.name, ENDED_JOBS, list(ENDED_JOBS.c), {})
        again = {"ended_at": statement.excluded.ended_at}
        statement = statement.on_conflict_do_update(index_elements=["job_id"], set_=again)
        connection.execute(statement, many(connection.dialect.name, [rows[job_id] for job_id in sorted(rows)]))


def forget_ended(connection: Connection, job_ids: Sequence[str]) -> None:
    """Forget these jobs, which are about to be deleted."""
    connection.execute(delete(ENDED_JOBS).where(among(connection, ENDED_JOBS.c.job_id, job_ids)))


class JobLists(LedgerStore):
    """The lists of one ledger. Thread-safe. Unavailable when it does not answer."""

    page = reads(list_jobs)
