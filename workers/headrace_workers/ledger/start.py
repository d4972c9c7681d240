"""The worker's first act: take up a claim, once, and read what is to be done."""

from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from headrace_workers.ledger.database import now_ms
from headrace_workers.ledger.tables import CLAIMS, IS_ACTIVE, JOBS, STEPS


@dataclass(frozen=True, slots=True)
class StepRow:
    """A claimed step with its job: everything that the worker needs to run it and to write what follows."""

    job_id: str
    tenant: str
    kind: str
    job_payload: bytes
    traceparent: str | None
    replays: int
    accepted_at: int
    attempts: int
    waited_ms: int
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


def start(connection: Connection, claim_id: int, *, worker: str, lease_ms: int) -> Started | None:
    """Begin a claim; None when it was begun before, ran out or was given back: then there is nothing to do."""
    head = connection.execute(
        update(CLAIMS)
        .where(CLAIMS.c.id == claim_id, CLAIMS.c.started_at.is_(None))
        .values(started_at=now_ms(), worker=worker, lease_until=now_ms() + lease_ms)
        .returning(
            CLAIMS.c.queue, CLAIMS.c.stage, CLAIMS.c.group_key, CLAIMS.c.full, CLAIMS.c.tokens, CLAIMS.c.started_at
        )
    ).first()
    if head is None:
        return None
    rows = connection.execute(
        select(
            STEPS.c.job_id,
            JOBS.c.tenant,
            JOBS.c.kind,
            JOBS.c.payload.label("job_payload"),
            JOBS.c.traceparent,
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
        )
        .join(JOBS, JOBS.c.id == STEPS.c.job_id)
        .where(STEPS.c.claim_id == claim_id, IS_ACTIVE)
        .order_by(STEPS.c.rank, STEPS.c.deadline, STEPS.c.turn, STEPS.c.job_id)
    ).all()
    steps = tuple(
        StepRow(
            job_id=r.job_id,
            tenant=r.tenant,
            kind=r.kind,
            job_payload=r.job_payload,
            traceparent=r.traceparent,
            replays=r.replays,
            accepted_at=r.accepted_at,
            attempts=r.attempts,
            waited_ms=max(0, head.started_at - r.ready_at),
            event_type=r.event_type,
            payload=r.payload,
            lane=r.lane,
            rank=r.rank,
            deadline=r.deadline,
            turn=r.turn,
            tokens=r.tokens,
        )
        for r in rows
    )
    return Started(claim_id, head.queue, head.stage, head.group_key, head.full, head.tokens, head.started_at, steps)
