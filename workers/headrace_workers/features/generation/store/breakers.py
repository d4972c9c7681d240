"""The circuit breakers of models: whether a model may be asked, after what its last calls came to.

After five failures in a row it is open, and nobody asks the model for ten seconds; then it is half open, and one call
tries (Nygard, "Release It!"). A success closes it. Each further failure doubles the time, up to 15 seconds, so that
traffic returns soon after an outage. Each time is shortened by a random part of up to a half, so that probes do not
fall in step with what makes the model fail.

The prompts of one tenant may be all that fails. So a breaker opens for all only on failures of several tenants: of
five in a row, three at most count of one tenant. Five failures of one tenant since it was last answered open the
breaker for that tenant, whose probes and failures are its own from then on; others go on. Where the model answered no
other tenant in the last hour, the failures of one open it for all, too.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Select, and_, delete, func, select, update

from headrace_schemas.event_types import type_of
from headrace_schemas.model_events import BreakerClosed, BreakerOpened
from headrace_schemas.uuids import Namespace
from headrace_workers.core.fields import columns, copied
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
MOST_OF_ONE: Final = 3  # of them that count of one tenant
FIRST_MS: Final = 10_000
LONGEST_MS: Final = 15_000
OTHERS_FIRST_MS: Final = 5_000  # at the end of a pause, in which only another tenant than the last may probe
LONGEST_WISH_MS: Final = 3_600_000  # that a provider may ask for

MOST_TENANTS: Final = 64  # whose failures are kept
_ANSWERED_MS: Final = 3_600_000  # after its last answer a tenant does not use the model
_MARKED_MS: Final = 600_000  # after which an answer is noted again
_MARKS: Final = 2  # tenants whose last answers are noted: any tenant that fails is another than one of them
_MOST_NAMED: Final = 10  # tenants, of a model
_LONGEST_REASON: Final = 200  # characters, of a tenant's breaker

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
class TenantBreaker:
    """State of a model's breaker for one tenant. `failures` are those since the tenant was answered, `in_row` those
    since anybody was; the other fields are `Breaker`'s.
    """

    failures: int = 0
    in_row: int = 0
    openings: int = 0
    opened_at: int | None = None
    open_until: int | None = None
    probed_until: int | None = None
    reason: str | None = None

    def state(self, now: int) -> str:
        """Return `closed`, `open` or `half_open`."""
        return _state(self.open_until, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """State of a breaker. Times are in ms by the ledger's clock.

    `failures` are those in a row, `openings` those since it was closed, `opened_at` is when that began. It is open
    until `open_until`, and longer while somebody probes until `probed_until`. The tenant that probed last, `probed_by`,
    lets others go first: its prompts may be what fails. `reason` is of the last failure. `tenants` are those that
    failed since they were answered. `answered` says when tenants were answered, as far as the rule needs it.
    """

    failures: int = 0
    openings: int = 0
    opened_at: int | None = None
    open_until: int | None = None
    probed_until: int | None = None
    probed_by: str | None = None
    reason: str | None = None
    tenants: Mapping[str, TenantBreaker] = field(default_factory=dict)
    answered: Mapping[str, int] = field(default_factory=dict)

    def state(self, now: int) -> str:
        """Return `closed`, `open` or `half_open`, for all tenants."""
        return _state(self.open_until, now)

    def of(self, tenant: str | None) -> TenantBreaker:
        """Return the breaker of a tenant alone."""
        return self.tenants.get(tenant or "", _CLOSED)

    def is_closed(self, tenant: str) -> bool:
        """Return True if this tenant may ask the model, and need not probe it."""
        return self.open_until is None and self.of(tenant).open_until is None

    def opens_in(self, now: int, tenant: str | None = None) -> int:
        """Return in how many ms somebody, or this tenant, may ask the model; 0 where it may be asked now."""
        own = _opens_in(self.of(tenant), self.of(tenant).open_until, now)
        since = self.open_until
        if since is not None and tenant is not None and tenant == self.probed_by:
            since += OTHERS_FIRST_MS
        return max(own, _opens_in(self, since, now))

    def open_for(self, now: int) -> frozenset[str]:
        """Return the tenants that may not ask the model, though others may."""
        return frozenset(tenant for tenant, own in self.tenants.items() if _opens_in(own, own.open_until, now))

    def singled_out(self) -> dict[str, TenantBreaker]:
        """Return the breakers of the tenants for which alone it is not closed."""
        if self.open_until is not None:
            return {}
        return {tenant: own for tenant, own in self.tenants.items() if own.open_until is not None}

    def answers_others(self) -> bool:
        """Return True unless it is not closed for some tenant, and the model has answered no other one since then."""
        return all(
            any(tenant != other and at >= (own.opened_at or 0) for other, at in self.answered.items())
            for tenant, own in self.singled_out().items()
        )


_CLOSED: Final = TenantBreaker()
_B = TypeVar("_B", Breaker, TenantBreaker)


def _state(open_until: int | None, now: int) -> str:
    if open_until is None:
        return "closed"
    return "half_open" if open_until <= now else "open"


def _opens_in(breaker: Breaker | TenantBreaker, since: int | None, now: int) -> int:
    return 0 if since is None else max(0, since - now, (breaker.probed_until or 0) - now)


def after_success(breaker: Breaker, now: int = 0, tenant: str = "") -> Breaker:
    """Return the state of a breaker whose model answered this tenant: closed, except for others alone that fail."""
    others = {name: replace(own, in_row=0) for name, own in breaker.tenants.items() if name != tenant}
    return Breaker(tenants=others, answered=_marked(breaker, now, tenant))


def _marked(breaker: Breaker, now: int, tenant: str) -> Mapping[str, int]:
    """Return when tenants were answered, with this one if that is worth a write: of each model, two are noted."""
    since = max((own.opened_at or 0 for own in breaker.singled_out().values()), default=0)
    fresh = [name for name, at in breaker.answered.items() if at >= max(since, now - _MARKED_MS)]
    if not tenant or tenant in fresh or len(fresh) >= _MARKS:
        return breaker.answered
    others = sorted(breaker.answered.items(), key=lambda mark: mark[1], reverse=True)
    return dict([(tenant, now), *(mark for mark in others if mark[0] != tenant)][:_MARKS])


def after_failure(
    breaker: Breaker,
    now: int,
    reason: str,
    *,
    tenant: str = "",
    probed: bool = False,
    until: int | None = None,
    jitter: float = 0.0,
) -> Breaker:
    """Return the state of a breaker whose model failed for this tenant: open, for all or for the tenant, where it
    failed often enough, or was only `probed`. A time `until` which the provider takes no call is of its key, which all
    share. `jitter`, from 0 to 1, cuts a time that nobody named.

    A call that began before the breaker opened, and fails after that, opens it no longer. Nobody answers for a call
    without a tenant, so it counts as one of many.
    """
    breaker = replace(breaker, failures=breaker.failures + 1, reason=reason)
    if tenant:
        own = _own_after_failure(breaker.of(tenant), now, reason, probed=probed, jitter=jitter)
        breaker = replace(breaker, tenants=_kept({**breaker.tenants, tenant: own}))
    is_probe = probed and breaker.state(now) == "half_open"
    if is_probe:
        breaker = replace(breaker, probed_until=None)
    elif breaker.open_until is not None:
        return breaker if until is None else _open(breaker, now, until)
    if until is not None:
        return _open(breaker, now, until)
    if is_probe or _fails_for_all(breaker, now, tenant):
        return _open(breaker, now, now + _pause(breaker, jitter) - (OTHERS_FIRST_MS if is_probe else 0))
    return breaker


def _own_after_failure(own: TenantBreaker, now: int, reason: str, *, probed: bool, jitter: float) -> TenantBreaker:
    own = replace(own, failures=own.failures + 1, in_row=own.in_row + 1, reason=reason[:_LONGEST_REASON])
    is_probe = probed and own.state(now) == "half_open"
    if is_probe:
        own = replace(own, probed_until=None)
    if is_probe or (own.open_until is None and own.failures >= PATIENCE):
        return _open(own, now, now + _pause(own, jitter))
    return own


def _fails_for_all(breaker: Breaker, now: int, tenant: str) -> bool:
    """Return True if failures in a row are the model's fault, and not that of one tenant's prompts: see above."""
    of_one = [own.in_row for own in breaker.tenants.values()]
    if breaker.failures - sum(of_one) + sum(min(count, MOST_OF_ONE) for count in of_one) >= PATIENCE:
        return True
    is_alone = not any(name != tenant and now - at < _ANSWERED_MS for name, at in breaker.answered.items())
    return is_alone and breaker.of(tenant).in_row >= PATIENCE


def _kept(tenants: Mapping[str, TenantBreaker]) -> Mapping[str, TenantBreaker]:
    """Return the tenants without the one that failed least, where they are too many."""
    if len(tenants) <= MOST_TENANTS:
        return tenants
    least = min(tenants, key=lambda name: (tenants[name].open_until or 0, tenants[name].failures))
    return {name: own for name, own in tenants.items() if name != least}


def probing(breaker: Breaker, now: int, tenant: str, lease_ms: int) -> Breaker | None:
    """Return the state of a breaker that this tenant probes for so long; None where it may not, or need not."""
    if breaker.is_closed(tenant) or breaker.opens_in(now, tenant):
        return None
    own = breaker.of(tenant)
    if own.open_until is not None:
        breaker = replace(breaker, tenants={**breaker.tenants, tenant: replace(own, probed_until=now + lease_ms)})
    return breaker if breaker.open_until is None else replace(breaker, probed_until=now + lease_ms, probed_by=tenant)


def after_nothing(breaker: Breaker, now: int, tenant: str = "") -> Breaker:
    """Return the state of a breaker whose probe came to nothing, such as a cancelled job's: other tenants may probe."""
    own = breaker.of(tenant)
    if own.probed_until is not None:
        breaker = replace(breaker, tenants={**breaker.tenants, tenant: replace(own, probed_until=None)})
    if breaker.open_until is None:
        return breaker
    return replace(breaker, probed_until=None, open_until=max(breaker.open_until, now))


def _pause(breaker: Breaker | TenantBreaker, jitter: float) -> int:
    return int(min(LONGEST_MS, FIRST_MS << min(breaker.openings, 10)) * (1 - jitter / 2))


def _open(breaker: _B, now: int, until: int) -> _B:
    return replace(
        breaker,
        openings=breaker.openings + 1,
        opened_at=breaker.opened_at or now,
        open_until=max(breaker.open_until or 0, min(until, now + LONGEST_WISH_MS)),
    )


# Built once: a job that comes alone waits for it in its worker and in its bridge.
_ALL: Final = select(BREAKERS, now_ms())


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
class Calls:
    """Calls of a model in some minutes: how many, how many of them failed, and how long the others took (ms)."""

    calls: int = 0
    failures: int = 0
    ms: int = 0
    slowest_ms: int = 0


def follow(
    connection: Connection, model: str, change: Callable[[Breaker, int], Breaker]
) -> tuple[Breaker, Breaker, int]:
    """Write `change(breaker, now)` of a breaker; return it before and after, and when that was (ms). One that closes
    wakes the steps that wait for it.
    """
    connection.execute(insert(connection, BREAKERS).values(model=model).on_conflict_do_nothing())
    row = connection.execute(_row_of(model)).one()
    now = clock(connection)
    before = _health(row, now).breaker
    after = change(before, now)
    if after != before:
        _write(connection, model, after)
    was_open = before.open_until is not None
    if (was_open and after.open_until is None) or before.singled_out().keys() - after.tenants.keys():
        wake(connection, [signal_of(model)])
    if was_open != (after.open_until is not None):
        put(connection, [_event_of(model, before, after, now)])
    return before, after, now


def _row_of(model: str) -> Select[Any]:
    return select(BREAKERS).where(BREAKERS.c.model == model).with_for_update()


def _write(connection: Connection, model: str, breaker: Breaker) -> None:
    tenants = {name: asdict(own) for name, own in breaker.tenants.items()}
    values = columns(
        BREAKERS,
        breaker,
        tenants=json.dumps(tenants) if tenants else None,
        answered=json.dumps(dict(breaker.answered)) if breaker.answered else None,
    )
    connection.execute(update(BREAKERS).where(BREAKERS.c.model == model).values(values))


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
    row = connection.execute(_row_of(model)).one_or_none()
    now = clock(connection)
    after = None if row is None else probing(_health(row, now).breaker, now, tenant, lease_ms)
    if after is None:
        return False
    _write(connection, model, after)
    return True


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
    """Return the breakers that are not closed, for `headrace status`: of tenants alone, the first."""
    found = []
    for model, health in sorted(all_of(connection).items()):
        breaker, now = health.breaker, health.now
        alone = sorted(breaker.singled_out().items())[:_MOST_NAMED]
        not_closed = [("", breaker)] if breaker.open_until is not None else alone
        for tenant, item in not_closed:
            state = item.state(now)
            subject = f"model {model}, tenant {tenant}" if tenant else f"model {model}"
            words = f"{_STATES[state]}{', for this tenant alone' if tenant else ''}: {item.reason}"
            found.append(Incident("models", subject, words, item.opened_at or now, mends_itself=state == "half_open"))
    return found


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
    made = insert(connection, MODEL_CALLS).values(model=model, minute=minute, **asdict(found))
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
    names = (*BREAKERS.c.keys(), "now")
    rows = (SimpleNamespace(**dict(zip(names, row, strict=True))) for row in rows_of(where, _ALL, {}))
    return {row.model: _health(row, row.now) for row in rows}


def _health(row: Any, now: int) -> Health:
    tenants = {name: TenantBreaker(**own) for name, own in json.loads(row.tenants or "{}").items()}
    breaker = copied(Breaker, row, tenants=tenants, answered=json.loads(row.answered or "{}"))
    return Health(breaker, row.drill if (row.drilled_until or 0) > now else None, now)


class Breakers(LedgerStore):
    """The breakers of one ledger, and the calls of its models. Thread-safe."""

    follow = durable(follow)
    take_probe = durable(take_probe)
    drill = durable(drill)
    make_due = durable(make_due)
    add_calls = volatile(add_calls)
    calls = reads(calls_of)
    all = single_read(all_of)
