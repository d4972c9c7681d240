"""Taking jobs in: each exactly once, in bulk, with its first step and its place in the fair order."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, delete, literal, select

from headrace_workers.core.ledger.assign import Room, hand_out
from headrace_workers.core.ledger.claim import Claim
from headrace_workers.core.ledger.records import Record
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.sql.database import among, insert_many, many, now_ms
from headrace_workers.core.sql.direct import run
from headrace_workers.core.tables import JOBS
from headrace_workers.features.access.store.token_quotas import Want, beyond, reserve
from headrace_workers.features.webhooks.store.listeners import wish


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

    @property
    def cost(self) -> int:
        """Tokens that it may cost at most."""
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
    """The number of jobs that were new, those whose ids were known, the claims that went out at once, and those jobs
    that were not taken in because of a quota, each with the reason.
    """

    new: int
    known: Sequence[NewJob] = ()
    handed_out: tuple[Claim, ...] = ()
    over: Sequence[tuple[NewJob, str]] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """Rows of jobs that were written: `unique` are the jobs by their ids, `accepted_at` is when those were accepted
    that are new, and `ahead` are those of which nothing else is known.
    """

    unique: Mapping[str, NewJob]
    accepted_at: Mapping[str, int]
    ahead: frozenset[str] = frozenset()


def ingest(
    connection: Connection, jobs: Sequence[NewJob], room: Room | None = None, beside: Collection[str] = ()
) -> Taken:
    """Write the jobs that are new, with their first steps. With `room`, these are handed out where there is room.

    What goes beyond its tenant's quota is not taken in; of the jobs of one line all, or none. `beside` are other
    tenants of this transaction: see `token_quotas.reserve`.
    """
    return take_in(connection, jobs, write(connection, jobs), room, beside=beside)


def write(connection: Connection, jobs: Sequence[NewJob], unknown: Mapping[str, Mapping[str, Any]] = {}) -> Written:
    """Write the rows of those of these jobs that are new, and of jobs of which nothing else is known: see cancel.py.

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


def take_in(
    connection: Connection,
    jobs: Sequence[NewJob],
    written: Written,
    room: Room | None = None,
    cancelled: Collection[str] = (),
    beside: Collection[str] = (),
) -> Taken:
    """Let the jobs that were written begin, but for those that were cancelled since; see `ingest`."""
    unique, accepted_at = written.unique, written.accepted_at
    taken = [job for job in unique.values() if job.id in accepted_at]
    tenants = {job.tenant for job in jobs} | set(beside)
    over = _over(connection, [job for job in taken if job.id not in cancelled], tenants)
    taken = [job for job in taken if job.id not in over]
    wish(connection, [(job.id, job.callback) for job in taken if job.callback is not None])
    steps = [
        step._replace(read_bytes=len(job.payload), tenant=job.tenant, flow=job.batch or 0)
        for job in taken
        if job.id not in cancelled
        for step in job.steps
    ]
    handed_out = hand_out(connection, steps, room, max(accepted_at.values(), default=0))
    again = [job for job in jobs if unique[job.id] is not job or job.id not in accepted_at]
    known = [job for job in again if job.id not in over]
    return Taken(len(taken), known, handed_out, [(job, over[job.id]) for job in jobs if job.id in over])


def _over(connection: Connection, jobs: Sequence[NewJob], beside: Collection[str]) -> dict[str, str]:
    """Those of these jobs, which were just written, that go beyond their tenants' quotas, each with the reason: they
    are not there any more.
    """
    wants = [Want(job.id, job.tenant, job.cost, None if job.line is None else (job.batch, job.line)) for job in jobs]
    over = reserve(connection, wants, adopt=True, beside=beside) if wants else {}
    if over:
        connection.execute(delete(JOBS).where(among(connection, JOBS.c.id, sorted(over))))
    return {job_id: beyond(quota) for job_id, quota in over.items()}
