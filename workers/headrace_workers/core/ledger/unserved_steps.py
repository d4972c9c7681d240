"""First steps in queues that no worker serves: found, and moved on to another stage, or left with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, func, or_, select, update

from headrace_workers.core.ledger.fair_queueing import in_turn
from headrace_workers.core.ledger.leases import release
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.sql.database import among, now_ms
from headrace_workers.core.sql.statements import run
from headrace_workers.core.tables import CLAIMS, IS_READY, JOBS, STEPS

AT_ONCE = 500
_PLACE = ("job_id", "ordinal", "lane", "rank", "deadline", "due", "turn", "tokens", "event_type")
_SINCE = now_ms() - bindparam("longest", type_=BigInteger)
_READY = select(STEPS.c.job_id).where(IS_READY, STEPS.c.queue == bindparam("queue"), STEPS.c.ready_at < _SINCE)
_UNSTARTED = select(CLAIMS.c.id).where(
    CLAIMS.c.queue == bindparam("queue"), CLAIMS.c.worker.is_(None), CLAIMS.c.claimed_at < _SINCE
)
_WAITS = select(_READY.exists() | _UNSTARTED.exists())


@dataclass(frozen=True, slots=True)
class Move:
    """A step that is to wait elsewhere."""

    job_id: str
    ordinal: int
    stage: str
    queue: str
    group_key: str
    context: bytes | None
    prefix: int | None


@dataclass(frozen=True, slots=True)
class Stay:
    """A step that goes on waiting where it is: its reason says for what."""

    job_id: str
    ordinal: int


def waits(connection: Connection, queue: str, longer_than_ms: int) -> bool:
    """Return True if a step has waited in this queue for so long, assigned or not."""
    ((found,),) = run(connection, _WAITS, {"queue": queue, "longest": longer_than_ms})
    return bool(found)


def take_back(connection: Connection, queue: str) -> int:
    """Give back the claims of this queue that no worker began; return the number of steps."""
    query = select(CLAIMS.c.id).where(CLAIMS.c.queue == queue, CLAIMS.c.worker.is_(None)).order_by(CLAIMS.c.claimed_at)
    return release(connection, list(connection.execute(query.with_for_update(skip_locked=True)).scalars()))


def ready(connection: Connection, stage: str, queue: str, reason: str) -> list[Any]:
    """Return the steps of a stage that are ready in a queue, a bounded number, locked unless others hold them: job_id,
    ordinal, context, kind, and the job as it came. Steps with this reason are left out: they were looked at before.
    """
    others = or_(STEPS.c.reason.is_(None), STEPS.c.reason != reason)
    query = (
        select(STEPS.c.job_id, STEPS.c.ordinal, STEPS.c.context, JOBS.c.kind, JOBS.c.payload)
        .join(JOBS, JOBS.c.id == STEPS.c.job_id)
        .where(IS_READY, STEPS.c.queue == queue, STEPS.c.stage == stage, STEPS.c.payload.is_(None), others)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True, of=STEPS)
    )
    return list(connection.execute(query))


def move(connection: Connection, stage: str, moves: Sequence[Move]) -> None:
    """Let these steps of a stage, which the caller has locked, wait elsewhere, and in turn there."""
    turns = _turns(connection, stage, moves)
    for item in moves:
        connection.execute(
            update(STEPS)
            .where(STEPS.c.job_id == item.job_id, STEPS.c.stage == stage, STEPS.c.ordinal == item.ordinal)
            .values(
                stage=item.stage,
                queue=item.queue,
                group_key=item.group_key,
                context=item.context,
                prefix=item.prefix,
                ready_at=now_ms(),
                turn=turns[item.job_id, item.ordinal],
            )
        )


def _turns(connection: Connection, stage: str, moves: Sequence[Move]) -> dict[tuple[str, int], int]:
    """Return the turns of these steps where they are to wait."""
    if not moves:
        return {}
    there = {(item.job_id, item.ordinal): item for item in moves}
    query = (
        select(*(STEPS.c[name] for name in _PLACE), JOBS.c.tenant, func.coalesce(JOBS.c.batch, 0).label("flow"))
        .join(JOBS, JOBS.c.id == STEPS.c.job_id)
        .where(among(connection, STEPS.c.job_id, [item.job_id for item in moves]), STEPS.c.stage == stage, IS_READY)
        .order_by(STEPS.c.turn)
    )
    steps = []
    for row in connection.execute(query):
        if (to := there.get((row.job_id, row.ordinal))) is not None:
            steps.append(NewStep(stage=to.stage, queue=to.queue, group_key=to.group_key, **row._mapping))
    return {(step.job_id, step.ordinal): step.turn for step in in_turn(connection, steps)}


def stay(connection: Connection, stage: str, stays: Sequence[Stay], reason: str) -> None:
    """Note in these steps of a stage, which the caller has locked, what they wait for."""
    for item in stays:
        connection.execute(
            update(STEPS)
            .where(STEPS.c.job_id == item.job_id, STEPS.c.stage == stage, STEPS.c.ordinal == item.ordinal)
            .values(reason=reason)
        )
