"""Steps that wait for one model, and that another may answer. Each method is one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, or_, select, update

from headrace_workers.core.ledger.job_ends import lock_active
from headrace_workers.core.ledger.model_calls import WantedCall, refused
from headrace_workers.core.ledger.steps import INTERACTIVE
from headrace_workers.core.ledger.unserved_steps import take_back
from headrace_workers.core.sql.database import among, now_ms
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.core.sql.transactions import durable
from headrace_workers.core.tables import IS_READY, JOBS, STEPS

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class NewPlace:
    """The queue of the model that a step goes to, its group and prefix there, and what it costs with that model. `call`
    is the call to reserve for, if its price is known.
    """

    queue: str
    group_key: str
    prefix: int | None
    tokens: int
    context: bytes
    call: WantedCall | None = None


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

    A row has job_id, ordinal, tokens, context, deadline, kind, the job's payload, and the time `now` (ms). Steps of
    batch work are looked at when their deadline is no further than `near_ms`. Steps without another place, and steps
    whose budget does not allow the other model, get the reason, and are not looked at again while it is the same. With
    `unserved`, claims that no worker has begun are taken back before. Lock order: claims, jobs, steps, and then what
    features reserve.
    """
    if unserved:
        take_back(connection, queue)
    urgent = or_(STEPS.c.lane == INTERACTIVE, STEPS.c.deadline < now_ms() + near_ms)
    unseen = or_(STEPS.c.reason.is_(None), STEPS.c.reason != reason)
    query = (
        select(
            *(STEPS.c[name] for name in ("job_id", "ordinal", "tokens", "context", "deadline")),
            JOBS.c.kind,
            JOBS.c.payload,
            now_ms().label("now"),
        )
        .join(JOBS, JOBS.c.id == STEPS.c.job_id)
        .where(IS_READY, STEPS.c.queue == queue, STEPS.c.stage == stage, urgent, unseen)
        .limit(_AT_ONCE)
    )
    places = {row.job_id: (row, place(row)) for row in connection.execute(query).all()}
    calls = {job_id: to.call for job_id, (_, to) in places.items() if to is not None and to.call is not None}
    active = lock_active(connection, sorted(calls)) if calls else {}
    free = _locked(connection, stage, queue, list(places))
    calls = {job_id: call for job_id, call in calls.items() if job_id in free and job_id in active}
    over = refused(connection, calls, active) if calls else {}
    moved = 0
    for job_id in sorted(free):
        row, to = places[job_id]
        step = (STEPS.c.job_id == job_id) & (STEPS.c.stage == stage) & (STEPS.c.ordinal == row.ordinal)
        values: dict[str, Any] = {"reason": reason}
        if to is not None and job_id not in over:
            moved += 1
            # It was to be run before: there, it goes first.
            values |= {"queue": to.queue, "group_key": to.group_key, "prefix": to.prefix, "tokens": to.tokens,
                       "context": to.context, "turn": 0, "waited_since": None}  # fmt: skip
        connection.execute(update(STEPS).where(step).values(values))
    return moved


def _locked(connection: Connection, stage: str, queue: str, job_ids: Sequence[str]) -> frozenset[str]:
    """Lock the steps that are still ready in this queue, and return their jobs. Steps that others lock are skipped."""
    if not job_ids:
        return frozenset()
    ready = select(STEPS.c.job_id).where(
        IS_READY, STEPS.c.queue == queue, STEPS.c.stage == stage, among(connection, STEPS.c.job_id, job_ids)
    )
    return frozenset(connection.execute(ready.with_for_update(skip_locked=True)).scalars())


class WaitingSteps(LedgerStore):
    """The steps of one ledger that wait for a model. Thread-safe."""

    reroute = durable(reroute)
