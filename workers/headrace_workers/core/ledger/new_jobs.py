"""Insertion of new jobs in bulk: each exactly once, with its first step and its place in fair queueing."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, delete, literal, select

from headrace_workers.core.ledger.assign import Room, assign
from headrace_workers.core.ledger.claim import Claim
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.ledger.records import Record
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.sql.database import among, insert_many, many, now_ms
from headrace_workers.core.sql.driver_statements import run
from headrace_workers.core.tables import JOBS


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that was decoded and found good, with its first steps."""

    id: str
    tenant: str
    kind: str
    payload: bytes
    record: Record  # as it came
    steps: tuple[NewStep, ...]
    traceparent: str | None = None
    correlationid: str | None = None
    ce_id: str | None = None  # of the event that brought it, where the job's id does not come from that
    batch: int | None = None  # of a batch's line: the batch's number, and the line's
    line: int | None = None
    callback: str | None = None  # JSON of its own, where it has one
    most_tokens: int | None = None  # that it may cost, where it may be answered again
    money: int = 0  # micro-units that its first call of a model may cost
    unpriced: str | None = None  # a model that it may need, and whose price is not known

    @property
    def cost(self) -> int:
        """Return the tokens that it may cost at most."""
        return sum(step.tokens for step in self.steps) if self.most_tokens is None else self.most_tokens


_COLUMNS = ("id", "tenant", "kind", "payload", "traceparent", "correlationid")
_SOME = ("ce_id", "batch", "line")  # written where a job of the group has it: others are not charged for it


@lru_cache
def _new_jobs(dialect: str, names: tuple[str, ...]) -> Any:
    columns = [JOBS.c[name] for name in names]
    now = select(now_ms()).scalar_subquery()  # once, not for each row
    statement = insert_many(dialect, JOBS, columns, {"state": literal("active"), "accepted_at": now})
    return statement.on_conflict_do_nothing(index_elements=["id"]).returning(JOBS.c.id, JOBS.c.accepted_at)


@dataclass(frozen=True, slots=True)
class Taken:
    """Number of new jobs and of known ones, the claims that were assigned at once, and the jobs that were refused
    because of a quota, each with the reason.
    """

    new: int
    known: Sequence[NewJob] = ()
    assigned: tuple[Claim, ...] = ()
    over: Sequence[tuple[NewJob, str]] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """Rows of jobs that were written: `unique` are the jobs by their ids, `accepted_at` is when the new jobs were
    accepted, and `ahead` are the jobs of which the ledger knows nothing else.
    """

    unique: Mapping[str, NewJob]
    accepted_at: Mapping[str, int]
    ahead: frozenset[str] = frozenset()


def ingest(
    connection: Connection, jobs: Sequence[NewJob], room: Room | None = None, tenants: Collection[str] = ()
) -> Taken:
    """Write the new jobs, with their first steps. With `room`, these are assigned at once if there is room.

    What goes beyond its tenant's quota is not taken in; of the jobs of one line all, or none. `tenants` are others of
    this transaction: see `Hooks.on_admit`.
    """
    return begin(connection, jobs, write(connection, jobs), room, tenants=tenants)


def write(connection: Connection, jobs: Sequence[NewJob], unknown: Mapping[str, Mapping[str, Any]] = {}) -> Written:
    """Write the rows of the jobs that are new, and of unknown jobs that were cancelled: see cancellation.py.

    Another bridge may write the same at this moment: both write all in the order of their ids, so that neither waits
    for the other in a circle.
    """
    unique: dict[str, NewJob] = {}
    for job in jobs:
        unique.setdefault(job.id, job)  # within one poll, too, the first wins
    names = (*_COLUMNS, *(name for name in _SOME if any(getattr(job, name) is not None for job in unique.values())))
    rows = {job_id: {name: getattr(job, name) for name in names} for job_id, job in unique.items()}
    others = {job_id: {**dict.fromkeys(names), **row} for job_id, row in unknown.items() if job_id not in rows}
    if not (rows or others):
        return Written({}, {})
    ordered = [row for _, row in sorted((rows | others).items())]
    dialect = connection.dialect.name
    made: dict[str, int] = dict(run(connection, _new_jobs(dialect, names), many(dialect, ordered)))
    accepted_at = {job_id: at for job_id, at in made.items() if job_id in rows}
    return Written(unique, accepted_at, frozenset(made.keys() - rows.keys()))


def begin(
    connection: Connection,
    jobs: Sequence[NewJob],
    written: Written,
    room: Room | None = None,
    cancelled: Collection[str] = (),
    tenants: Collection[str] = (),
) -> Taken:
    """Let the jobs that were written begin, except for those that were cancelled since; see `ingest`."""
    unique, accepted_at = written.unique, written.accepted_at
    taken = [job for job in unique.values() if job.id in accepted_at]
    beginning = [job for job in taken if job.id not in cancelled]
    steps = [
        step._replace(read_bytes=len(job.payload), tenant=job.tenant, flow=job.batch or 0)
        for job in beginning
        for step in job.steps
    ]
    # Behind this, others wait for the tenants' quotas until the transaction ends.
    over = _over(connection, beginning, {job.tenant for job in jobs} | set(tenants))
    if over:
        taken = [job for job in taken if job.id not in over]
        steps = [step for step in steps if step.job_id not in over]
    for feature in hooks():
        feature.on_ingest(connection, taken)
    assigned = assign(connection, steps, room, max(accepted_at.values(), default=0))
    again = [job for job in jobs if unique[job.id] is not job or job.id not in accepted_at]
    known = [job for job in again if job.id not in over]
    return Taken(len(taken), known, assigned, [(job, over[job.id]) for job in jobs if job.id in over])


def _over(connection: Connection, jobs: Sequence[NewJob], tenants: Collection[str]) -> dict[str, str]:
    """Remove the jobs, which were just written, that exceed a quota; return them with the reasons."""
    over: dict[str, str] = {}
    if jobs:
        for feature in hooks():
            over |= feature.on_admit(connection, jobs, tenants)
    if over:
        connection.execute(delete(JOBS).where(among(connection, JOBS.c.id, sorted(over))))
    return over
