"""Lists of jobs, newest first: pages by keys, along the indexes of unfinished and of ended jobs, with a bound on the
rows that a page reads.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from sqlalchemy import Connection, Row, Select, select, tuple_

from headrace_workers.core.pipeline.stage import model_of
from headrace_workers.core.sql.database import among
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.core.tables import IS_ACTIVE, JOBS, STEPS

PAGE: Final = 50
MOST_READ: Final = 2_000  # rows for one page
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
class JobLine:
    """A job in a list, and the models whose queues it was in."""

    row: Row[Any]
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobList:
    """A page of a list. `after` leads to older jobs; `read` rows were read for it, and with `stopped` there may be more
    on what is left unread.
    """

    jobs: Sequence[JobLine]
    after: Place | None
    read: int
    stopped: bool


def list_jobs(connection: Connection, wanted: JobFilter, after: Place | None = None) -> JobList:
    """Return a page of the list behind a place."""
    rows = connection.execute(_walk(wanted, after)).all()
    fitting = [row for row in rows if _fits(row, wanted)]
    if wanted.model is not None:
        theirs = _models(connection, (row.id for row in fitting))
        fitting = [row for row in fitting if wanted.model in theirs.get(row.id, ())]
    shown = fitting[:PAGE]
    models = _models(connection, (row.id for row in shown))
    jobs = [JobLine(row, models.get(row.id, ())) for row in shown]
    if len(fitting) > PAGE:
        return JobList(jobs, Place(shown[-1].at, shown[-1].id), len(rows), stopped=False)
    if len(rows) < MOST_READ:
        return JobList(jobs, None, len(rows), stopped=False)
    # The last row may be another tenant's, so its id is not told; rows of the same moment are read again.
    last = rows[-1].at
    at_same = after is not None and after.at == last
    return JobList(jobs, Place(last, "" if at_same else "~"), len(rows), stopped=True)


def _walk(wanted: JobFilter, after: Place | None) -> Select[Any]:
    is_open = wanted.state == UNFINISHED
    time = JOBS.c.accepted_at if is_open else JOBS.c.ended_at
    columns = (JOBS.c[name] for name in ("id", "tenant", "kind", "state", "application", "accepted_at", "ended_at"))
    query = select(*columns, JOBS.c.subject, time.label("at")).where(
        IS_ACTIVE if is_open else JOBS.c.ended_at.is_not(None)
    )
    if not is_open and wanted.application is not None and "@" in wanted.application:
        query = query.where(JOBS.c.application == wanted.application)  # which has an index
    if after is not None:
        query = query.where(time <= after.at, tuple_(time, JOBS.c.id) < tuple(after))
    return query.order_by(time.desc(), JOBS.c.id.desc()).limit(MOST_READ)


def _fits(row: Row[Any], wanted: JobFilter) -> bool:
    application = wanted.application
    return (
        row.subject is None
        and wanted.tenant in (None, row.tenant)
        and wanted.state in (UNFINISHED, ENDED, row.state)
        and (application is None or application in (row.application, (row.application or "").partition("@")[0]))
    )


def _models(connection: Connection, job_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the models in whose queues these jobs were, in order."""
    found: dict[str, set[str]] = {}
    if ids := list(job_ids):
        query = select(STEPS.c.job_id, STEPS.c.queue).where(among(connection, STEPS.c.job_id, ids))
        for job_id, queue in connection.execute(query):
            if model := model_of(queue):
                found.setdefault(job_id, set()).add(model)
    return {job_id: tuple(sorted(models)) for job_id, models in found.items()}


class JobLists(LedgerStore):
    """The lists of one ledger. Thread-safe. Unavailable when it does not answer."""

    page = reads(list_jobs)
