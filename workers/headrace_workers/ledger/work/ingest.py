"""Taking jobs in: each exactly once, in bulk, with its first step and its place in the fair order."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, delete, literal, select

from headrace_workers.ledger.sql.database import among, insert_many, many, now_ms
from headrace_workers.ledger.sql.direct import run
from headrace_workers.ledger.tables.core import JOBS
from headrace_workers.ledger.work.claim import Claim
from headrace_workers.ledger.work.hand_out import Room, hand_out
from headrace_workers.ledger.work.listening import wish
from headrace_workers.ledger.work.records import Record
from headrace_workers.ledger.work.steps import NewStep
from headrace_workers.ledger.work.token_quotas import Want, beyond, reserve
from headrace_workers.ledger.work.turns import advance, in_turn


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
    knowledge: str | None = None  # the base that it names, where it names one
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


def ingest(connection: Connection, jobs: Sequence[NewJob], room: Room | None = None) -> Taken:
    """Write the jobs that are new, with their first steps. With `room`, these are handed out where there is room.

    What goes beyond its tenant's quota is not taken in; of the jobs of one line all, or none.
    """
    unique: dict[str, NewJob] = {}
    for job in jobs:
        unique.setdefault(job.id, job)  # within one poll, too, the first wins
    if not unique:
        return Taken(0)
    # Another bridge may take the same jobs in at this moment: both write in the order of their ids, so that neither
    # waits for the other in a circle.
    names = (*_COLUMNS, *(name for name in _SOME if any(getattr(job, name) is not None for job in unique.values())))
    rows = [{name: getattr(job, name) for name in names} for job in sorted(unique.values(), key=lambda job: job.id)]
    dialect = connection.dialect.name
    accepted_at: dict[str, int] = dict(run(connection, _new_jobs(dialect, names), many(dialect, rows)))
    taken = [job for job in unique.values() if job.id in accepted_at]
    over = _over(connection, taken)
    taken = [job for job in taken if job.id not in over]
    wish(connection, [(job.id, job.callback) for job in taken if job.callback is not None])
    steps = in_turn(
        connection, [(job.tenant, s._replace(read_bytes=len(job.payload))) for job in taken for s in job.steps]
    )
    handed_out = hand_out(connection, steps, room, max(accepted_at.values(), default=0))
    if handed_out:
        advance(connection, max(step.turn for step in steps))
    again = [job for job in jobs if unique[job.id] is not job or job.id not in accepted_at]
    known = [job for job in again if job.id not in over]
    return Taken(len(taken), known, handed_out, [(job, over[job.id]) for job in jobs if job.id in over])


def _over(connection: Connection, jobs: Sequence[NewJob]) -> dict[str, str]:
    """Those of these jobs, which were just written, that go beyond their tenants' quotas, each with the reason: they
    are not there any more.
    """
    wants = [Want(job.id, job.tenant, job.cost, None if job.line is None else (job.batch, job.line)) for job in jobs]
    over = reserve(connection, wants, adopt=True) if wants else {}
    if over:
        connection.execute(delete(JOBS).where(among(connection, JOBS.c.id, sorted(over))))
    return {job_id: beyond(quota) for job_id, quota in over.items()}
