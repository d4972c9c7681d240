"""Steps that wait for one model, and that another may answer. Each method is one transaction."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, or_, select, update

from headrace_workers.core.ledger.lanes import INTERACTIVE
from headrace_workers.core.ledger.unrun import take_back
from headrace_workers.core.sql.database import now_ms
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.core.sql.transactions import durable
from headrace_workers.core.tables import IS_READY, JOBS, STEPS

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class NewPlace:
    """The queue of the model that a step goes to, its group and prefix there, and what it costs with that model."""

    queue: str
    group_key: str
    prefix: int | None
    tokens: int
    context: bytes


def reroute(
    connection: Connection,
    stage: str,
    queue: str,
    near_ms: int,
    place: Callable[[Any], NewPlace | None],
    reason: str,
    *,
    unserved: bool = False,
) -> int:
    """Move steps of a stage that are ready in this queue to the place that `place(row)` returns; return how many moved.

    A row has job_id, ordinal, tokens, context, kind and the job's payload. Steps of batch work are looked at when their
    deadline is no further than `near_ms`. Those without another place get the reason, and are not looked at again while
    it is the same. With `unserved`, claims that no worker has begun are taken back before.
    """
    if unserved:
        take_back(connection, queue)
    urgent = or_(STEPS.c.lane == INTERACTIVE, STEPS.c.deadline < now_ms() + near_ms)
    unseen = or_(STEPS.c.reason.is_(None), STEPS.c.reason != reason)
    query = (
        select(STEPS.c.job_id, STEPS.c.ordinal, STEPS.c.tokens, STEPS.c.context, JOBS.c.kind, JOBS.c.payload)
        .join(JOBS, JOBS.c.id == STEPS.c.job_id)
        .where(IS_READY, STEPS.c.queue == queue, STEPS.c.stage == stage, urgent, unseen)
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True, of=STEPS)
    )
    moved = 0
    for row in connection.execute(query).all():
        to = place(row)
        step = (STEPS.c.job_id == row.job_id) & (STEPS.c.stage == stage) & (STEPS.c.ordinal == row.ordinal)
        values: dict[str, Any] = {"reason": reason}
        if to is not None:
            moved += 1
            # It was to be run before: there, it goes first.
            values |= {"queue": to.queue, "group_key": to.group_key, "prefix": to.prefix, "tokens": to.tokens,
                       "context": to.context, "turn": 0}  # fmt: skip
        connection.execute(update(STEPS).where(step).values(values))
    return moved


class WaitingSteps(LedgerStore):
    """The steps of one ledger that wait for a model. Thread-safe."""

    reroute = durable(reroute)
