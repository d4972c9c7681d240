"""Lines whose jobs are known already, of a batch in which the line's own key is the job's.

Such a job may have come by Kafka, or with another batch, and may have ended: the line takes it over as it is, and its
end is written as that of any other. A job is one batch's at a time, until its end is in that one's files: the line
waits for that.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from headrace_workers.core.ledger.ingest import NewJob, RecordContent, conflict_reasons
from headrace_workers.core.sql.database import among
from headrace_workers.core.tables import JOBS
from headrace_workers.features.batches.store.batch_lines import NewLine
from headrace_workers.features.batches.store.batches import CONFLICT

_TAKE = update(JOBS).where(JOBS.c.id == bindparam("job")).values(batch=bindparam("to_batch"), line=bindparam("to_line"))


def adopt(connection: Connection, number: int, lines: Sequence[NewLine]) -> tuple[list[NewLine], frozenset[str], bool]:
    """Take over what is there of these lines: the lines that go on now, those with other content refused; the jobs that
    are taken over; and whether the rest waits for another batch.
    """
    known = _known(connection, [job.id for line in lines for job in line.jobs])
    busy = {job_id for job_id, batch in known.items() if batch not in (None, number)}
    going: list[NewLine] = []
    for line in lines:
        if any(job.id in busy for job in line.jobs):
            break
        going.append(line)
    there = [job for line in going for job in line.jobs if job.id in known]
    reasons = conflict_reasons(connection, [RecordContent(job.id, job.tenant, job.payload) for job in there])
    other = {there[place].line: reason for place, reason in reasons.items()}
    adopted = [job for job in there if job.line not in other]
    _take(connection, number, adopted)
    going = [line.without_jobs(CONFLICT, other[line.number]) if line.number in other else line for line in going]
    return going, frozenset(job.id for job in adopted), len(going) < len(lines)


def _known(connection: Connection, job_ids: Sequence[str]) -> dict[str, int | None]:
    """Return the batches of the jobs that exist, locked until this transaction ends."""
    query = select(JOBS.c.id, JOBS.c.batch).where(among(connection, JOBS.c.id, job_ids)).order_by(JOBS.c.id)
    rows: Sequence[Any] = connection.execute(query.with_for_update()).all()
    return {row.id: row.batch for row in rows}


def _take(connection: Connection, number: int, jobs: Sequence[NewJob]) -> None:
    if jobs:
        connection.execute(_TAKE, [{"job": job.id, "to_batch": number, "to_line": job.line} for job in jobs])
