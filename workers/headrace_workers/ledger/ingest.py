"""Taking jobs in: each exactly once, in bulk, with its first step and its place in the fair order.

Fair order is self-clocked fair queueing (Golestani 1994): each tenant has a virtual time that grows by the cost of
its jobs, and never lags behind the virtual time of the work in service. Ordering by that number alone serves the
tenants in turn, in proportion to tokens, without looking at the queue.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, case, literal, literal_column

from headrace_workers.ledger.append import append
from headrace_workers.ledger.database import insert, insert_many, many, now_ms
from headrace_workers.ledger.records import Record
from headrace_workers.ledger.steps import NewStep, row
from headrace_workers.ledger.tables import JOBS, STEPS, TURNS

CLOCK = ""  # the row of TURNS that is no tenant: the virtual time of the work in service
INTERACTIVE, BATCH = 0, 1


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


_COLUMNS = ("id", "tenant", "kind", "payload", "traceparent", "correlationid")


@lru_cache
def _new_jobs(dialect: str) -> Any:
    columns = [JOBS.c[name] for name in _COLUMNS]
    statement = insert_many(dialect, JOBS, columns, {"state": literal("active"), "accepted_at": now_ms()})
    return statement.on_conflict_do_nothing(index_elements=["id"]).returning(JOBS.c.id, JOBS.c.accepted_at)


def ingest(connection: Connection, jobs: Sequence[NewJob]) -> tuple[list[NewJob], list[NewJob]]:
    """Write the jobs that are new, with their first steps: (those, the rest, whose ids were known)."""
    unique: dict[str, NewJob] = {}
    for job in jobs:
        unique.setdefault(job.id, job)  # within one poll, too, the first wins
    if not unique:
        return [], []
    # Another bridge may take the same jobs in at this moment: both write in the order of their ids, so that neither
    # waits for the other in a circle.
    rows = [{name: getattr(job, name) for name in _COLUMNS} for job in sorted(unique.values(), key=lambda job: job.id)]
    dialect = connection.dialect.name
    written = connection.execute(_new_jobs(dialect), many(dialect, rows))
    accepted_at = {row.id: row.accepted_at for row in written}
    taken = [job for job in unique.values() if job.id in accepted_at]
    steps = _in_turn(connection, taken)
    if steps:
        append(connection, STEPS, [row(step, accepted_at[step.job_id]) for step in steps])
    return taken, [job for job in jobs if unique[job.id] is not job or job.id not in accepted_at]


# The turn of CLOCK, as text: a statement for many rows may have no parameter that is not one of a row's.
_SERVICE = literal_column("coalesce((SELECT s.turn FROM turns AS s WHERE s.tenant = ''), 0)", BigInteger)


@lru_cache
def _charge(dialect: str) -> Any:
    """Add to a tenant's virtual time, which never lags behind the clock."""
    statement = insert(dialect, TURNS).values(
        tenant=bindparam("name"), turn=_SERVICE + bindparam("cost", type_=BigInteger)
    )
    ahead = case((TURNS.c.turn > _SERVICE, TURNS.c.turn - _SERVICE), else_=literal_column("0"))
    return statement.on_conflict_do_update(
        index_elements=["tenant"], set_={"turn": statement.excluded.turn + ahead}
    ).returning(TURNS.c.tenant, TURNS.c.turn)


def _in_turn(connection: Connection, jobs: Sequence[NewJob]) -> list[NewStep]:
    """The first steps of these jobs, each with its virtual finishing time."""
    costs: Counter[str] = Counter()
    for job in jobs:
        costs[job.tenant] += sum(step.tokens for step in job.steps)
    if not costs:
        return []
    # In the order of their names, so that two bridges cannot deadlock.
    rows = [{"name": tenant, "cost": cost} for tenant, cost in sorted(costs.items())]
    ends = connection.execute(_charge(connection.dialect.name), rows)
    turns = {row.tenant: row.turn - costs[row.tenant] for row in ends}
    steps = []
    for job in jobs:
        for step in job.steps:
            turns[job.tenant] += step.tokens
            steps.append(replace(step, turn=turns[job.tenant], read_bytes=len(job.payload)))
    return steps
