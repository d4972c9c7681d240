"""The circuit breakers of models: whether a model may be asked, after what its last calls came to.

After five failures in a row it is open, and nobody asks the model for ten seconds; then it is half open, and one call
tries (Nygard, "Release It!"). A success closes it. Each further failure doubles the time, up to 15 seconds, so that
traffic returns soon after an outage. Each time is shortened by a random part of up to a half, so that probes do not
fall in step with what makes the model fail.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, and_, delete, func, or_, select, update

from headrace_schemas.event_types import type_of
from headrace_schemas.model_events import BreakerClosed, BreakerOpened
from headrace_schemas.uuids import Namespace
from headrace_workers.core.fields import copied
from headrace_workers.core.identity import breaker_event_id
from headrace_workers.core.ledger.incidents import Incident
from headrace_workers.core.ledger.job_ends import wake
from headrace_workers.core.ledger.outbox import Outgoing, outgoing, put
from headrace_workers.core.pipeline.stage import model_queue
from headrace_workers.core.sql.database import among, clock, insert, now_ms
from headrace_workers.core.sql.statements import SingleStatements, rows_of
from headrace_workers.core.sql.store import LedgerStore, durable, reads, single_read, volatile
from headrace_workers.core.tables import IS_PARKED, STEPS
from headrace_workers.features.generation.tables import BREAKERS, MODEL_CALLS

PATIENCE: Final = 5  # failures in a row
FIRST_MS: Final = 10_000
LONGEST_MS: Final = 15_000
OTHERS_FIRST_MS: Final = 5_000  # at the end of a pause, in which only another tenant than the last may probe
LONGEST_WISH_MS: Final = 3_600_000  # that a provider may ask for

MINUTE_MS: Final = 60_000
KEPT_MINUTES: Final = 60
_SIGNALS: Final = Namespace(uuid.UUID("0d4d5c1f-6a5e-5a0e-9a2b-2f0a4b7c9e31"))
_LEAST_DRILL_MS: Final = 1_000
_DUE_AT_ONCE: Final = 1_000
_STATES: Final = {
    "open": "its breaker is open",
    "half_open": "its breaker is half open, and the next call tries whether it answers again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """State of a breaker. Times are in ms by the ledger's clock.

    `failures` are those in a row, `openings` those since it was closed, `opened_at` is when that began. It is open
    until `open_until`, and longer while somebody probes until `probed_until`. The tenant that probed last, `probed_by`,
    lets others go first: its prompts may be what fails. `reason` is of the last failure.
    """

    failures: int = 0
    openings: int = 0
    opened_at: int | None = None
    open_until: int | None = None
    probed_until: int | None = None
    probed_by: str | None = None
    reason: str | None = None

    def state(self, now: int) -> str:
        """Return `closed`, `open` or `half_open`."""
        if self.open_until is None:
            return "closed"
        return "half_open" if self.open_until <= now else "open"

    def opens_in(self, now: int, tenant: str | None = None) -> int:
        """Return in how many ms somebody, or this tenant, may ask the model; 0 where it may be asked now."""
        if self.open_until is None:
            return 0
        since = self.open_until
        if tenant is not None and tenant == self.probed_by:
            since += OTHERS_FIRST_MS
        return max(0, since - now, (self.probed_until or 0) - now)


def after_success(_breaker: Breaker) -> Breaker:
    """Return the state of a breaker whose model answered: closed."""
    return Breaker()


def after_failure(
    breaker: Breaker, now: int, reason: str, *, probed: bool = False, until: int | None = None, jitter: float = 0.0
) -> Breaker:
    """Return the state of a breaker whose model failed: open where it failed often enough, or was only `probed`, or its
    provider named a time `until` which it takes no call. `jitter`, from 0 to 1, cuts a time that nobody named.

    A call that began before the breaker opened, and fails after that, opens it no longer.
    """
    breaker = replace(breaker, failures=breaker.failures + 1, reason=reason)
    if probed:
        breaker = replace(breaker, probed_until=None)
    elif breaker.open_until is not None:
        return breaker if until is None else _open(breaker, now, until)
    if until is not None:
        return _open(breaker, now, until)
    if probed or breaker.failures >= PATIENCE:
        pause = int(min(LONGEST_MS, FIRST_MS << min(breaker.openings, 10)) * (1 - jitter / 2))
        return _open(breaker, now, now + pause - (OTHERS_FIRST_MS if probed else 0))
    return breaker


def after_nothing(breaker: Breaker, now: int) -> Breaker:
    """Return the state of a breaker whose probe came to nothing, such as a cancelled job's: other tenants may probe."""
    if breaker.open_until is None:
        return breaker
    return replace(breaker, probed_until=None, open_until=max(breaker.open_until, now))


def _open(breaker: Breaker, now: int, until: int) -> Breaker:
    return replace(
        breaker,
        openings=breaker.openings + 1,
        opened_at=breaker.opened_at or now,
        open_until=max(breaker.open_until or 0, min(until, now + LONGEST_WISH_MS)),
    )


class _Known(NamedTuple):
    """A breaker's row, and the time (ms)."""

    model: str
    failures: int
    openings: int
    opened_at: int | None
    open_until: int | None
    probed_until: int | None
    probed_by: str | None
    reason: str | None
    drill: str | None
    drilled_until: int | None
    now: int


# Built once: a job that comes alone waits for it in its worker and in its bridge.
_ALL: Final = select(*(BREAKERS.c[name] for name in _Known._fields[:-1]), now_ms())


def signal_of(model: str) -> str:
    """Return the name of the signal that a model answers again."""
    return _SIGNALS.id_of(model)


@dataclass(frozen=True, slots=True)
class Health:
    """A model's breaker, the fault that a drill injects at the moment, if any, and the time of both (ms)."""

    breaker: Breaker
    drill: str | None
    now: int


@dataclass(frozen=True, slots=True)
class Change:
    """A breaker before and after a change, and when that was (ms)."""

    before: Breaker
    after: Breaker
    now: int


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of a model in some minutes: how many, how many of them failed, and how long the others took (ms)."""

    calls: int = 0
    failures: int = 0
    ms: int = 0
    slowest_ms: int = 0


def follow(connection: Connection, model: str, change: Callable[[Breaker, int], Breaker]) -> Change:
    """Write what follows from a breaker by `change(breaker, now)`. One that closes wakes the steps that wait for it."""
    connection.execute(insert(connection, BREAKERS).values(model=model).on_conflict_do_nothing())
    row = connection.execute(select(BREAKERS).where(BREAKERS.c.model == model).with_for_update()).one()
    now = clock(connection)
    before = _health(row, now).breaker
    after = change(before, now)
    if after != before:
        connection.execute(
            update(BREAKERS)
            .where(BREAKERS.c.model == model)
            .values(
                failures=after.failures,
                openings=after.openings,
                opened_at=after.opened_at,
                open_until=after.open_until,
                probed_until=after.probed_until,
                probed_by=after.probed_by,
                reason=None if after.reason is None else after.reason[:2_000],
            )
        )
    if before.open_until is not None and after.open_until is None:
        wake(connection, [signal_of(model)])
    if (before.open_until is None) != (after.open_until is None):
        put(connection, [_event_of(model, before, after, now)])
    return Change(before, after, now)


def _event_of(model: str, before: Breaker, after: Breaker, now: int) -> Outgoing:
    """Return the record that tells of a breaker that opened or closed."""
    event: BreakerOpened | BreakerClosed = (
        BreakerClosed(model=model, opened_at=_time(before.opened_at or now))
        if after.open_until is None
        else BreakerOpened(model=model, reason=after.reason or "it failed", until=_time(after.open_until))
    )
    return outgoing(
        event,
        event_id=breaker_event_id(model, now, type_of(event)),
        job_id=None,
        traceparent=None,
        correlationid=None,
        at_ms=now,
        key=model,
    )


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def take_probe(connection: Connection, model: str, lease_ms: int, tenant: str) -> bool:
    """Return True for one caller, where the breaker is half open: it may ask the model, and has so long for it. The
    tenant that probed last lets others go first for a while.
    """
    free = or_(BREAKERS.c.probed_until.is_(None), BREAKERS.c.probed_until <= now_ms())
    others = or_(BREAKERS.c.probed_by.is_(None), BREAKERS.c.probed_by != tenant)
    its_turn = or_(others, BREAKERS.c.open_until <= now_ms() - OTHERS_FIRST_MS)
    taken = connection.execute(
        update(BREAKERS)
        .where(BREAKERS.c.model == model, BREAKERS.c.open_until <= now_ms(), free, its_turn)
        .values(probed_until=now_ms() + lease_ms, probed_by=tenant)
    )
    return taken.rowcount == 1


def make_due(connection: Connection, model: str) -> int:
    """Let the steps run now that wait until a time for this model, a bounded number a call; return how many."""
    waits = and_(
        IS_PARKED, STEPS.c.waits_for.is_(None), STEPS.c.queue == model_queue(model), STEPS.c.ready_at > now_ms()
    )
    found = select(STEPS.c.job_id).where(waits).limit(_DUE_AT_ONCE).with_for_update(skip_locked=True)
    free = list(connection.execute(found).scalars())
    if free:
        due = update(STEPS).where(waits, among(connection, STEPS.c.job_id, free))
        connection.execute(due.values(ready_at=now_ms()))
    return len(free)


def incidents(connection: Connection) -> list[Incident]:
    """Return the breakers that are not closed, for `headrace status`."""
    return [
        Incident(
            "models",
            f"model {model}",
            f"{_STATES[state]}: {found.breaker.reason}",
            found.breaker.opened_at or found.now,
            mends_itself=state == "half_open",
        )
        for model, found in sorted(all_of(connection).items())
        if (state := found.breaker.state(found.now)) != "closed"
    ]


def drill(connection: Connection, model: str, kind: str | None, for_ms: int) -> None:
    """Let a fault be injected for so long from now; None ends it."""
    values: dict[str, Any] = {"drill": kind, "drilled_until": now_ms() + max(_LEAST_DRILL_MS, for_ms)}
    if kind is None:
        values = {"drill": None, "drilled_until": None}
    made = insert(connection, BREAKERS).values(model=model, **values)
    connection.execute(made.on_conflict_do_update(index_elements=["model"], set_=values))


def add_calls(connection: Connection, model: str, found: Calls) -> None:
    """Add calls to the count of this minute."""
    minute = clock(connection) // MINUTE_MS
    made = insert(connection, MODEL_CALLS).values(
        model=model,
        minute=minute,
        calls=found.calls,
        failures=found.failures,
        ms=found.ms,
        slowest_ms=found.slowest_ms,
    )
    slowest = func.greatest if connection.dialect.name == "postgresql" else func.max
    connection.execute(
        made.on_conflict_do_update(
            index_elements=["model", "minute"],
            set_={
                "calls": MODEL_CALLS.c.calls + found.calls,
                "failures": MODEL_CALLS.c.failures + found.failures,
                "ms": MODEL_CALLS.c.ms + found.ms,
                "slowest_ms": slowest(MODEL_CALLS.c.slowest_ms, found.slowest_ms),
            },
        )
    )


def calls_of(connection: Connection, minutes: int) -> dict[str, Calls]:
    """Return the calls of each model in the last minutes, this one included."""
    since = clock(connection) // MINUTE_MS - minutes
    total = [func.sum(MODEL_CALLS.c[name]) for name in ("calls", "failures", "ms")]
    query = select(MODEL_CALLS.c.model, *total, func.max(MODEL_CALLS.c.slowest_ms))
    query = query.where(MODEL_CALLS.c.minute > since).group_by(MODEL_CALLS.c.model)
    return {model: Calls(*map(int, counts)) for model, *counts in connection.execute(query)}


def forget(connection: Connection) -> None:
    """Forget calls of more than an hour ago."""
    since = clock(connection) // MINUTE_MS - KEPT_MINUTES
    connection.execute(delete(MODEL_CALLS).where(MODEL_CALLS.c.minute < since))


def all_of(where: Connection | SingleStatements) -> dict[str, Health]:
    """Return the health of all models that ever failed or were drilled."""
    return {row.model: _health(row, row.now) for row in map(_Known._make, rows_of(where, _ALL, {}))}


def _health(row: Any, now: int) -> Health:
    return Health(copied(Breaker, row), row.drill if (row.drilled_until or 0) > now else None, now)


class Breakers(LedgerStore):
    """The breakers of one ledger, and the calls of its models. Thread-safe."""

    follow = durable(follow)
    take_probe = durable(take_probe)
    drill = durable(drill)
    make_due = durable(make_due)
    add_calls = volatile(add_calls)
    calls = reads(calls_of)
    all = single_read(all_of)
