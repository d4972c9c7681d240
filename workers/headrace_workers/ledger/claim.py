"""Handing out work: the most urgent group of steps that may share a call, under a lease and a new fencing token.

A group ends at `limit` steps or at its token budget. The budget is what fits the time quantum, and it is learnt:
a full group that took less than the quantum raises it by a quarter, one that took more lowers it in proportion
(additive increase would be slow to find a fast machine). Groups that were not full teach nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, case, delete, select, update

from headrace_workers.ledger.database import insert, locks_rows, now_ms
from headrace_workers.ledger.ingest import CLOCK
from headrace_workers.ledger.tables import BUDGETS, CLAIMS, IS_READY, STEPS, TURNS

FIRST_BUDGET = 8_192  # tokens, before anything is known of a group
LEAST_BUDGET = 256
LARGEST_BUDGET = 1_000_000

_ORDER = (STEPS.c.rank, STEPS.c.deadline, STEPS.c.turn, STEPS.c.job_id)


@dataclass(frozen=True, slots=True)
class Claim:
    """A group that was handed out. `id` is the fencing token: whoever holds it may complete these steps."""

    id: int
    queue: str
    stage: str
    lane: int
    size: int


def within_budget(tokens: Sequence[int], budget: int) -> int:
    """How many of these, in order, fit the budget: always at least the first."""
    spent = 0
    for count, cost in enumerate(tokens):
        spent += cost
        if spent > budget and count > 0:
            return count
    return len(tokens)


def next_budget(budget: int, seconds: float, quantum: float) -> int:
    """What a full group that took `seconds` teaches about the budget of the next."""
    grown = budget * (1.25 if seconds <= quantum else max(0.5, quantum / seconds))
    return int(min(LARGEST_BUDGET, max(LEAST_BUDGET, grown)))


def claim(connection: Connection, queue: str, lane: int, *, limit: int, lease_ms: int, bridge: str) -> Claim | None:
    """Claim the most urgent group of one queue and lane; None when nothing is ready."""
    ready = and_(IS_READY, STEPS.c.queue == queue, STEPS.c.lane == lane)
    head = connection.execute(
        select(STEPS.c.group_key, BUDGETS.c.tokens)
        .select_from(STEPS.outerjoin(BUDGETS, BUDGETS.c.group_key == STEPS.c.group_key))
        .where(ready)
        .order_by(*_ORDER)
        .limit(1)
    ).first()
    if head is None:
        return None
    query = (
        select(STEPS.c.job_id, STEPS.c.stage, STEPS.c.tokens, STEPS.c.turn)
        .where(ready, STEPS.c.group_key == head.group_key)
        .order_by(*_ORDER)
        .limit(limit)
    )
    rows = connection.execute(query.with_for_update(skip_locked=True) if locks_rows(connection) else query).all()
    if not rows:  # another bridge is claiming these at this moment
        return None
    size = within_budget([row.tokens for row in rows], head.tokens or FIRST_BUDGET)
    full = size < len(rows) or size == limit
    rows = rows[:size]
    stage = rows[0].stage
    claim_id = connection.execute(
        CLAIMS.insert()
        .values(
            queue=queue,
            stage=stage,
            group_key=head.group_key,
            lane=lane,
            size=size,
            tokens=sum(row.tokens for row in rows),
            full=full,
            bridge=bridge,
            claimed_at=now_ms(),
            lease_until=now_ms() + lease_ms,
        )
        .returning(CLAIMS.c.id)
    ).scalar_one()
    connection.execute(
        update(STEPS)
        .where(STEPS.c.job_id.in_([row.job_id for row in rows]), STEPS.c.stage == stage)
        .values(state="leased", claim_id=claim_id, attempts=STEPS.c.attempts + 1)
    )
    _advance(connection, max(row.turn for row in rows))
    return Claim(claim_id, queue, stage, lane, size)


def _advance(connection: Connection, turn: int) -> None:
    """Move the virtual time of the work in service forward; never back."""
    statement = insert(connection, TURNS).values(tenant=CLOCK, turn=turn)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant"],
            set_={"turn": statement.excluded.turn},
            where=TURNS.c.turn < statement.excluded.turn,
        )
    )


def renew(connection: Connection, claim_ids: Sequence[int], lease_ms: int) -> frozenset[int]:
    """Put off the end of these leases; the ids that still are leases."""
    return frozenset(
        connection.execute(
            update(CLAIMS)
            .where(CLAIMS.c.id.in_(claim_ids))
            .values(lease_until=now_ms() + lease_ms)
            .returning(CLAIMS.c.id)
        ).scalars()
    )


def release(connection: Connection, claim_ids: Sequence[int]) -> int:
    """Give back claims whose work was not done: their steps are ready again, and this attempt never was."""
    gone = connection.execute(delete(CLAIMS).where(CLAIMS.c.id.in_(claim_ids)).returning(CLAIMS.c.id)).scalars().all()
    if not gone:
        return 0
    return connection.execute(
        update(STEPS)
        .where(STEPS.c.claim_id.in_(gone), STEPS.c.state == "leased")
        .values(
            state="ready",
            claim_id=None,
            attempts=case((STEPS.c.attempts > 0, STEPS.c.attempts - 1), else_=0),
        )
    ).rowcount


def unstarted_of(connection: Connection, bridge: str) -> list[int]:
    """The claims that this bridge sent out and no worker has started."""
    return list(
        connection.execute(
            select(CLAIMS.c.id).where(CLAIMS.c.bridge == bridge, CLAIMS.c.started_at.is_(None))
        ).scalars()
    )


def started_by(connection: Connection, worker: str) -> list[int]:
    """The claims that this worker has begun and not completed."""
    return list(connection.execute(select(CLAIMS.c.id).where(CLAIMS.c.worker == worker)).scalars())
