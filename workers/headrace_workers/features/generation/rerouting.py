"""Rerouting of steps that wait for a model that cannot answer them: its breaker is open, or no worker holds it. They go
to the next model of their job's chain.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, Final

from sqlalchemy import Connection, or_, select, true, update

from headrace_schemas import HeadraceError
from headrace_schemas.codec import decode_job
from headrace_schemas.events import Attempt
from headrace_workers.core.clock import Clock
from headrace_workers.core.ledger.charges import Bill, routed
from headrace_workers.core.ledger.job_ends import lock_active
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.model_calls import WantedCall, refused
from headrace_workers.core.ledger.steps import INTERACTIVE
from headrace_workers.core.ledger.unserved_steps import take_back
from headrace_workers.core.log import Action, log
from headrace_workers.core.pipeline.chain import (
    NEAR_SECONDS,
    UNSERVED_SECONDS,
    FailedAttempt,
    tokens_with,
    with_attempt,
    with_chain,
)
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.settle import wanted_call
from headrace_workers.core.pipeline.stage import ReadBytes, Stage, model_queue, no_chain
from headrace_workers.core.pipeline.task import pack, unpack
from headrace_workers.core.progress import Awaited
from headrace_workers.core.redis import RedisNames, live_queues, redis_client
from headrace_workers.core.sql.database import among, now_ms
from headrace_workers.core.sql.store import LedgerStore, durable
from headrace_workers.core.tables import IS_READY, JOBS, NEVER, STEPS
from headrace_workers.features.generation.model_health import KnownBreakers
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.bridge.duty import BridgeParts, Turn
from headrace_workers.runtime.wire.hints import Hint, HintReceiver

_AT_ONCE: Final = 500

_REST: Final = 0.5  # seconds between two looks
_UNSERVED_EVERY: Final = 2.0  # and between two looks for models that no worker holds


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
    tenants: Collection[str] | None = None,
) -> int:
    """Move steps of a stage that are ready in this queue to the place that `place(row)` returns; return how many moved.

    A row has job_id, ordinal, tokens, context, deadline, kind, the job's payload, and the time `now` (ms). Steps of
    batch work are looked at when their deadline is no further than `near_ms`. Steps without another place, and steps
    whose budget does not allow the other model, get the reason, and are not looked at again while it is the same. With
    `unserved`, claims that no worker has begun are taken back before. With `tenants`, only steps of their jobs move.
    Lock order: claims, jobs, steps, and then what features reserve.
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
        .where(true() if tenants is None else JOBS.c.tenant.in_(tenants))
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


class Rerouting:
    """Mover of interactive steps, and of batch work whose deadline is near. `live` returns which of these queues have a
    worker, or None where nobody knows. Several bridges may do this side by side.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        pipeline: Pipeline,
        breakers: KnownBreakers,
        models: Callable[[], Collection[str]],
        live: Callable[[list[str]], frozenset[str] | None],
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._pipeline = pipeline
        self._breakers = breakers
        self._models = models
        self._live = live
        self._clock = clock
        self._looked_at = float("-inf")
        self._unserved: frozenset[str] = frozenset()

    @property
    def receivers(self) -> Mapping[Hint, HintReceiver]:
        """Return nothing: it looks by itself."""
        return {}

    def take_turn(self, turn: Turn) -> Awaited | None:
        """Move the steps there are, and rest."""
        if self.once():
            turn.tell(Hint.WORK)
        turn.rest(_REST)
        return None

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def once(self) -> int:
        """Look once; return how many steps moved."""
        moved = sum(
            self._move(model, f"{model} was not asked: its breaker is open", tenants=tenants)
            for model, tenants in self._breakers.barred().items()
        )
        if self._clock.monotonic() - self._looked_at >= _UNSERVED_EVERY:
            self._unserved = self._without_worker()
            self._looked_at = self._clock.monotonic()
        return moved + sum(
            self._move(model, f"{model} was not asked: no worker holds it", unserved=True) for model in self._unserved
        )

    def _without_worker(self) -> frozenset[str]:
        """Return the models that no worker holds, and for which steps have waited a while, now or before."""
        late = {
            queue: model
            for model in self._models()
            if self._ledger.waits(queue := model_queue(model), int(UNSERVED_SECONDS * 1000)) or model in self._unserved
        }
        live = self._live(list(late)) if late else frozenset()
        return frozenset() if live is None else frozenset(late[queue] for queue in late.keys() - live)

    def _move(self, model: str, reason: str, *, unserved: bool = False, tenants: Collection[str] | None = None) -> int:
        moved = sum(
            self._ledger.of(WaitingSteps).reroute(
                stage.name,
                model_queue(model),
                int(NEAR_SECONDS * 1000),
                partial(self._place, stage, model, reason),
                reason,
                unserved=unserved,
                tenants=tenants,
            )
            for stage in self._pipeline.stages
            if stage.chain is not no_chain
        )
        if moved:
            log("reroute", logging.WARNING, Action.PASSED_OVER, f"{reason}: jobs went to another model", jobs=moved)
        return moved

    def _place(self, stage: Stage, model: str, reason: str, row: Any) -> NewPlace | None:
        try:
            context, unpublished = unpack(row.context)
            job = with_chain(decode_job(row.kind, row.payload), context)
        except HeadraceError:  # a newer version's: its own bridge knows what to do
            return None
        left = None if row.deadline >= NEVER else (row.deadline - row.now) / 1000
        unserved = FailedAttempt(model=model, opens_in=inf)
        decision, route = self._pipeline.decide(stage, row.job_id, job, unserved, left)
        if decision.action != "next" or route is None or route.model is None:
            return None
        attempt = Attempt(model=model, category=decision.category, reason=reason, ms=0)
        kept = {**context, **with_attempt(context, attempt)}
        call = self._pipeline.call(route, job, ReadBytes(len(row.payload), len(row.context or b"")))
        changed = pack(routed(kept, call), unpublished)
        assert changed is not None  # noqa: S101 - it holds the attempt
        tokens = tokens_with(route.model, model, row.tokens, context)
        wanted = wanted_call(call, Bill.before(kept))
        return NewPlace(route.queue, route.group, route.prefix, tokens, changed, wanted)


def rerouting_of(bridge: BridgeParts) -> Rerouting:
    """Return the duty for a bridge."""
    settings = bridge.settings
    return Rerouting(
        ledger=bridge.ledger,
        pipeline=bridge.rules.pipeline,
        breakers=KnownBreakers(bridge.ledger),
        models=Registry(settings.home).aliases,
        live=partial(live_queues, redis_client(settings.redis), RedisNames(settings.kafka.prefix)),
        clock=bridge.clock,
    )
