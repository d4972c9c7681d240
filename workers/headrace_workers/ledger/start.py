"""The worker's first act: take up a claim, once, and read what is to be done."""

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, bindparam, or_, select, update

from headrace_workers.ledger.database import now_ms
from headrace_workers.ledger.hand_on import Kept
from headrace_workers.ledger.tables import CLAIMS, JOBS, STEPS


class StepRow(NamedTuple):
    """A claimed step with its job: everything that the worker needs to run it and to write what follows."""

    job_id: str
    tenant: str
    kind: str
    job_payload: bytes
    traceparent: str | None
    correlationid: str | None
    replays: int
    accepted_at: int
    attempts: int
    ready_at: int
    event_type: str
    payload: bytes | None
    lane: int
    rank: int
    deadline: int
    turn: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Started:
    """A claim in a worker's hands. `now` is the database's clock at the start, in ms."""

    claim_id: int
    queue: str
    stage: str
    group_key: str
    full: bool
    tokens: int
    now: int
    steps: tuple[StepRow, ...]


_BEGIN = (
    update(CLAIMS)
    .where(CLAIMS.c.id == bindparam("claim"), or_(CLAIMS.c.started_at.is_(None), CLAIMS.c.worker == bindparam("by")))
    .values(
        started_at=now_ms(),
        worker=bindparam("by"),
        renewed_at=now_ms(),
        lease_until=now_ms() + bindparam("lease_ms", type_=BigInteger),
    )
    .returning(CLAIMS.c.queue, CLAIMS.c.stage, CLAIMS.c.group_key, CLAIMS.c.full, CLAIMS.c.tokens, CLAIMS.c.started_at)
)
# In the order of StepRow's fields. The state is looked at here, not in SQL: there it would tempt the planner to read
# the index of all active jobs.
_STEPS = (
    select(
        STEPS.c.job_id,
        JOBS.c.tenant,
        JOBS.c.kind,
        JOBS.c.payload,
        JOBS.c.traceparent,
        JOBS.c.correlationid,
        JOBS.c.replays,
        JOBS.c.accepted_at,
        STEPS.c.attempts,
        STEPS.c.ready_at,
        STEPS.c.event_type,
        STEPS.c.payload,
        STEPS.c.lane,
        STEPS.c.rank,
        STEPS.c.deadline,
        STEPS.c.turn,
        STEPS.c.tokens,
        JOBS.c.state,
    )
    .join(JOBS, JOBS.c.id == STEPS.c.job_id)
    .where(STEPS.c.claim_id == bindparam("claim"))
    .order_by(STEPS.c.rank, STEPS.c.deadline, STEPS.c.turn, STEPS.c.job_id)
)


def start(connection: Connection, claim_id: int, *, worker: str, lease_ms: int) -> Started | None:
    """Begin a claim; None when another began it, or it ran out or was given back: then there is nothing to do.

    The same worker may ask again, because it never got the answer: whether it runs the claim already, it knows itself.
    """
    head = connection.execute(_BEGIN, {"claim": claim_id, "by": worker, "lease_ms": lease_ms}).first()
    if head is None:
        return None
    queue, stage, group_key, full, tokens, now = head
    rows = connection.execute(_STEPS, {"claim": claim_id})
    # The step of a job that was cancelled since is left out, and put away when the claim ends.
    steps = tuple(StepRow._make(tuple(row)[:-1]) for row in rows if row[-1] == "active")
    return Started(claim_id, queue, stage, group_key, full, tokens, now, steps)


def continued(before: Started, kept: Kept, now: int) -> Started:
    """A group that its worker kept, begun at `now`: all that would be read is known from the steps that it follows."""
    parents = {row.job_id: row for row in before.steps}
    steps = tuple(
        parents[step.job_id]._replace(
            attempts=1,
            ready_at=now,
            event_type=step.event_type,
            payload=step.payload,
            lane=step.lane,
            rank=step.rank,
            deadline=step.deadline,
            turn=step.turn,
            tokens=step.tokens,
        )
        for step in kept.steps
    )
    claim, tokens = kept.claim, sum(step.tokens for step in kept.steps)
    return Started(claim.id, claim.queue, claim.stage, kept.steps[0].group_key, False, tokens, now, steps)
