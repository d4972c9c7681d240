"""Jobs that failed because of what they ask: a job that asks exactly the same need not be tried."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from headrace_schemas import Category, DeadLetter, GenerationJob
from headrace_schemas.codec import decode_job, decode_value
from headrace_schemas.errors import InvalidRecord
from headrace_workers.core.sql.database import among
from headrace_workers.core.tables import JOBS, STEPS

# Of the others another try may be answered.
_WOULD_AGAIN: Final = frozenset({Category.INVALID, Category.PERMANENT, Category.POISON})


@dataclass(frozen=True, slots=True)
class Failure:
    """A request, and how it ended."""

    job: GenerationJob
    category: Category
    reason: str


def failed(connection: Connection, job_ids: Collection[str]) -> dict[str, Failure]:
    """Return by id the dead jobs that would die again if they ran again.

    Jobs that a person withheld are left out: nothing follows from them for others.
    """
    columns = (JOBS.c.id, JOBS.c.kind, JOBS.c.payload, JOBS.c.terminal_type, JOBS.c.terminal)
    withheld = select(STEPS.c.job_id).where(STEPS.c.job_id == JOBS.c.id, STEPS.c.held_at.is_not(None)).exists()
    dead = (among(connection, JOBS.c.id, sorted(job_ids)), JOBS.c.state == "dead", ~withheld)
    query = select(*columns).where(*dead)
    found = {}
    for row in connection.execute(query):
        try:
            job, end = decode_job(row.kind, row.payload), decode_value(row.terminal_type, row.terminal)
        except InvalidRecord:  # another version's
            continue
        if isinstance(job, GenerationJob) and isinstance(end, DeadLetter) and end.category in _WOULD_AGAIN:
            found[row.id] = Failure(job, end.category, end.reason)
    return found
