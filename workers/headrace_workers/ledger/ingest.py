"""Taking jobs in: each exactly once, in bulk, with its first step and its place in the fair order.

Fair order is self-clocked fair queueing (Golestani 1994): each tenant has a virtual time that grows by the cost of
its jobs, and never lags behind the virtual time of the work in service. Ordering by that number alone serves the
tenants in turn, in proportion to tokens, without looking at the queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from headrace_schemas import Topic
from headrace_workers.ledger.database import among, clock, insert, locks_rows
from headrace_workers.ledger.tables import JOBS, STEPS, TURNS

CLOCK = ""  # the row of TURNS that is no tenant: the virtual time of the work in service
INTERACTIVE, BATCH = 0, 1


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step to be made ready. `payload` is None when the step reads the job itself."""

    job_id: str
    stage: str
    queue: str
    group_key: str
    lane: int
    rank: int
    deadline: int
    turn: int
    tokens: int
    event_type: str
    payload: bytes | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that was decoded and found good, with its first steps."""

    id: str
    tenant: str
    kind: str
    topic: Topic
    payload: bytes
    traceparent: str | None
    steps: tuple[NewStep, ...]


def step_row(step: NewStep, now: int) -> dict[str, Any]:
    """The row of a step that is ready from now on."""
    return {
        "job_id": step.job_id,
        "stage": step.stage,
        "state": "ready",
        "queue": step.queue,
        "group_key": step.group_key,
        "lane": step.lane,
        "rank": step.rank,
        "deadline": step.deadline,
        "turn": step.turn,
        "tokens": step.tokens,
        "ready_at": now,
        "event_type": step.event_type,
        "payload": step.payload,
    }


def ingest(connection: Connection, jobs: Sequence[NewJob]) -> frozenset[str]:
    """Write the jobs that are new, with their first steps; the ids of those. Known ones are passed over."""
    unique = {job.id: job for job in jobs}
    if not unique:
        return frozenset()
    now = clock(connection)
    known = set(connection.execute(select(JOBS.c.id).where(among(connection, JOBS.c.id, list(unique)))).scalars())
    new = [job for job in unique.values() if job.id not in known]
    if not new:
        return frozenset()
    # Another bridge may take the same job in at this moment: then its row stands, and its steps do.
    connection.execute(
        insert(connection, JOBS).on_conflict_do_nothing(index_elements=["id"]),
        [
            {
                "id": job.id,
                "tenant": job.tenant,
                "kind": job.kind,
                "state": "active",
                "payload": job.payload,
                "traceparent": job.traceparent,
                "accepted_at": now,
            }
            for job in new
        ],
    )
    steps = [step_row(step, now) for step in _in_turn(connection, new)]
    if steps:
        connection.execute(insert(connection, STEPS).on_conflict_do_nothing(), steps)
    return frozenset(job.id for job in new)


def _in_turn(connection: Connection, jobs: Sequence[NewJob]) -> list[NewStep]:
    """The first steps of these jobs, each with its virtual finishing time."""
    tenants = sorted({job.tenant for job in jobs})
    if not tenants:
        return []
    connection.execute(
        insert(connection, TURNS).on_conflict_do_nothing(index_elements=["tenant"]),
        [{"tenant": name, "turn": 0} for name in tenants],
    )
    clock = connection.execute(select(TURNS.c.turn).where(TURNS.c.tenant == CLOCK)).scalar() or 0
    query = (
        select(TURNS.c.tenant, TURNS.c.turn).where(among(connection, TURNS.c.tenant, tenants)).order_by(TURNS.c.tenant)
    )
    if locks_rows(connection):
        query = query.with_for_update()  # in the order of their names, so that two bridges cannot deadlock
    turns = {row.tenant: max(row.turn, clock) for row in connection.execute(query)}
    steps = []
    for job in jobs:
        for step in job.steps:
            turns[job.tenant] += step.tokens
            steps.append(replace(step, turn=turns[job.tenant]))
    connection.execute(
        update(TURNS).where(TURNS.c.tenant == bindparam("name")).values(turn=bindparam("value")),
        [{"name": name, "value": turns[name]} for name in tenants],
    )
    return steps
