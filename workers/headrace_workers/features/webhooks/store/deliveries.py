"""Deliveries to endpoints: written with their units of work, attempted, shown to people, and sent again.

A delivery is a unit (core/ledger/event_units.py) whose content lies in a row of its own, so that people can see what
was delivered, and send it again as it was.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    true,
    update,
)

from headrace_schemas.budget import BudgetReached
from headrace_schemas.callback import BUDGET_REACHED, ENDPOINT_DISABLED, Recipient
from headrace_schemas.uuids import Namespace
from headrace_workers.core.fields import columns, copied
from headrace_workers.core.ledger.event_units import NewUnit, make_units
from headrace_workers.core.ledger.steps import BATCH, NewStep
from headrace_workers.core.sql.database import among, bindparam_of, clock, now_ms, one_of
from headrace_workers.core.sql.statements import SingleStatements, rows_of
from headrace_workers.core.tables import DEAD_LETTERS, DROPPED, JOBS, STEPS
from headrace_workers.features.webhooks.store import endpoints
from headrace_workers.features.webhooks.tables import CALLBACKS_OF_JOBS, DELIVERIES, ENDPOINTS, LISTENS
from headrace_workers.features.webhooks.views import State

STAGE: Final = "deliver"
PATIENCE_MS: Final = 6 * 86_400_000  # all attempts take 76 hours, and pauses of the receiver come on top
_GRAIN_MS: Final = 3_600_000  # deliveries of one hour are of one urgency: then tenants take turns
MOST_OPEN: Final = 10_000  # of one endpoint
_USUAL_RANK: Final = 4

_MESSAGES: Final = Namespace(uuid.UUID("a1f1a3a2-0f5e-5c0b-9b63-5d0c1f2e7b44"))


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery to one endpoint. `url` is set if it is not the endpoint's own."""

    id: str
    endpoint_id: str
    tenant: str
    type: str
    subject: str
    body: bytes
    url: str | None = None

    @property
    def table(self) -> Table:
        """Return the table of its row."""
        return DELIVERIES

    def row(self, now: int) -> dict[str, Any]:
        """Return its row, written at this time (ms)."""
        return columns(DELIVERIES, self, created_at=now)


def message_id(event_id: str, event_type: str, endpoint_id: str) -> str:
    """Return the id of what an endpoint is told of an event: the same however often that is."""
    return _MESSAGES.id_of(f"{event_id}\n{event_type}\n{endpoint_id}")


def unit(delivery: NewDelivery, about: str, now: int) -> NewUnit:
    """Return the work of a delivery. `about`: the job that it follows, which is kept as long as this is open."""
    deadline = now + PATIENCE_MS
    return NewUnit(
        id=delivery.id,
        subject=about,
        tenant=delivery.tenant,
        endpoint=delivery.endpoint_id,
        most_open=MOST_OPEN,
        content=delivery,
        step=NewStep(
            job_id=delivery.id,
            stage=STAGE,
            queue=STAGE,
            # A claim holds one endpoint's: one that hangs delays nobody else's.
            group_key=f"{STAGE}|{delivery.endpoint_id}",
            lane=BATCH,
            rank=_USUAL_RANK,
            deadline=deadline - deadline % _GRAIN_MS,
            turn=0,
            tokens=1,
            event_type=delivery.type,
            read_bytes=len(delivery.body),
        ),
    )


def body(*, message: str, event_type: str, at_ms: int, data: Mapping[str, Any]) -> bytes:
    """Return a webhook's body: what Standard Webhooks specifies, and what OpenAI's client reads beside it."""
    content = {
        "id": f"evt_{message.replace('-', '')}",
        "object": "event",
        "type": event_type,
        "created_at": at_ms // 1000,
        "timestamp": datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        "data": data,
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def announce(
    connection: Connection,
    *,
    tenant: str,
    event_type: str,
    subject: str,
    data: Mapping[str, Any] | None = None,
    callback: Recipient | None = None,
    occurrence: str = "",
) -> int:
    """Tell the tenant's endpoints that listen to such events, and the place `callback`, of what is no job's end: of a
    batch's, say. How many are told; none a second time.

    `subject` is the id of what it is about, of at most 64 characters. `data` is told with that id. An event that a
    subject may have more than once has a name for each time, its `occurrence`.
    """
    now = clock(connection)
    asked = select(ENDPOINTS).where(LISTENS, ENDPOINTS.c.tenant == tenant)
    listening = map(endpoints.endpoint_of, connection.execute(asked).mappings())
    told: dict[str, str | None] = {endpoint.id: None for endpoint in listening if event_type in endpoint.events}
    if callback is not None and callback.url is not None:
        place = endpoints.place_id(tenant, origin_of(callback.url))
        endpoints.ensure_places(connection, {place: (tenant, origin_of(callback.url))})
        told[place] = callback.url
    elif callback is not None and callback.endpoint is not None:
        told[callback.endpoint] = None  # whose it is, is seen when it is to be sent
    units = []
    for endpoint_id, url in told.items():
        message = message_id(f"{subject}\n{occurrence}", event_type, endpoint_id)
        content = body(message=message, event_type=event_type, at_ms=now, data={"id": subject, **(data or {})})
        delivery = NewDelivery(message, endpoint_id, tenant, event_type, subject, content, url)
        units.append(unit(delivery, _MESSAGES.id_of(subject), now))
    return make_units(connection, units).count


def tell_disabled(connection: Connection, endpoint_id: str) -> None:
    """Tell the tenant's other endpoints that this one was disabled."""
    endpoint = endpoints.get(connection, endpoint_id)
    if endpoint is not None:
        announce(
            connection,
            tenant=endpoint.tenant,
            event_type=ENDPOINT_DISABLED,
            subject=endpoint_id,
            data={"url": endpoint.url, "reason": endpoint.disabled},
            occurrence=str(clock(connection)),
        )


def tell_budgets(connection: Connection, reached: Mapping[str, BudgetReached]) -> None:
    """Tell the tenants' endpoints that subscribe to it of budgets of which a percentage is spent, each once: the ids
    are those of the events that say so.
    """
    for event_id, event in reached.items():
        data = event.model_dump(mode="json", exclude_none=True)
        announce(connection, tenant=event.tenant, event_type=BUDGET_REACHED, subject=event_id, data=data)


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL, for what counts as one receiver."""
    return "/".join(url.split("/", 3)[:3]).lower()


def forget(connection: Connection, job_ids: Sequence[str]) -> None:
    """Forget the deliveries whose units these are, and where the callbacks of these jobs went."""
    for column in (DELIVERIES.c.id, CALLBACKS_OF_JOBS.c.job_id):
        connection.execute(delete(column.table).where(among(connection, column, job_ids)))


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that is due."""

    id: str
    type: str
    url: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Tried:
    """The outcome of an attempt: see `Reply`."""

    id: str
    ms: int
    status: int | None
    error: str | None
    answer: str


def due(where: Connection | SingleStatements, ids: Sequence[str]) -> tuple[dict[str, Due], int]:
    """Return the known deliveries among these whose endpoint exists; and the time (ms)."""
    rows = rows_of(where, _due(where.dialect.name), {"ids": list(ids)})
    now = rows[0][-1] if rows else rows_of(where, _CLOCK, {})[0][0]
    return {row[0]: Due(*row[:-1]) for row in rows}, now


_CLOCK: Final = select(now_ms())


@lru_cache
def _due(dialect: str) -> Select[Any]:
    return (
        select(
            DELIVERIES.c.id,
            DELIVERIES.c.type,
            func.coalesce(DELIVERIES.c.url, ENDPOINTS.c.url).label("url"),
            DELIVERIES.c.body,
            now_ms(),
        )
        .join(ENDPOINTS, ENDPOINTS.c.id == DELIVERIES.c.endpoint_id)
        .where(one_of(dialect, DELIVERIES.c.id, bindparam_of(dialect, DELIVERIES.c.id, name="ids")))
    )


_NOTE: Final = (
    update(DELIVERIES)
    .where(DELIVERIES.c.id == bindparam("delivery"))
    .values(
        attempts=DELIVERIES.c.attempts + 1,
        attempted_at=now_ms(),
        status=bindparam("said"),
        ms=bindparam("took"),
        error=bindparam("why"),
        answer=bindparam("words"),
    )
)


def note(connection: Connection, tries: Sequence[Tried]) -> None:
    """Write what came of these attempts."""
    if tries:
        rows = [
            {"delivery": tried.id, "said": tried.status, "took": tried.ms, "why": tried.error, "words": tried.answer}
            for tried in sorted(tries, key=lambda tried: tried.id)
        ]
        connection.execute(_NOTE, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A range of deliveries: of an endpoint or a tenant, made from `since` to before `until` (ms)."""

    endpoint_id: str | None = None
    tenant: str | None = None
    since: int | None = None
    until: int | None = None

    def condition(self) -> ColumnElement[bool]:
        """Return the condition in SQL."""
        conditions: list[ColumnElement[bool]] = []
        if self.endpoint_id is not None:
            conditions.append(DELIVERIES.c.endpoint_id == self.endpoint_id)
        if self.tenant is not None:
            conditions.append(DELIVERIES.c.tenant == self.tenant)
        if self.since is not None:
            conditions.append(DELIVERIES.c.created_at >= self.since)
        if self.until is not None:
            conditions.append(DELIVERIES.c.created_at < self.until)
        return and_(true(), *conditions)


_STATES: Final[Mapping[State, str]] = {"pending": "active", "delivered": "done", "failed": "dead", "dropped": DROPPED}
_WORDS: Final = {word: state for state, word in _STATES.items()}


def ends_between(connection: Connection, after: int, until: int) -> dict[tuple[str, ...], int]:
    """Return how many deliveries ended after a time and until another (ms), by how they ended."""
    ended = JOBS.c.ended_at > after, JOBS.c.ended_at <= until
    query = select(JOBS.c.state, func.count()).join(DELIVERIES, DELIVERIES.c.id == JOBS.c.id).where(*ended)
    return {(_WORDS.get(state, state),): count for state, count in connection.execute(query.group_by(JOBS.c.state))}


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery for people. Times are in ms; `next_at` is the time of the next attempt, if there is one."""

    id: str
    endpoint_id: str
    tenant: str
    type: str
    subject: str
    url: str | None
    state: State
    attempts: int
    created_at: int
    attempted_at: int | None
    next_at: int | None
    status: int | None
    ms: int | None
    error: str | None
    answer: str | None
    replayed_at: int | None


def find(connection: Connection, which: Range, limit: int, state: State | None = None) -> list[DeliveryView]:
    """Return deliveries, newest first."""
    columns = [column for column in DELIVERIES.c if column.name != "body"]
    query = (
        select(*columns, JOBS.c.state, STEPS.c.ready_at, STEPS.c.reason)
        .join(JOBS, JOBS.c.id == DELIVERIES.c.id)
        .join(STEPS, STEPS.c.job_id == DELIVERIES.c.id)
        .where(which.condition())
        .order_by(DELIVERIES.c.created_at.desc(), DELIVERIES.c.id)
        .limit(limit)
    )
    if state is not None:
        query = query.where(JOBS.c.state == _STATES[state])
    rows: Sequence[Any] = connection.execute(query).all()
    return [_view(row) for row in rows]


def get(connection: Connection, delivery_id: str) -> tuple[DeliveryView, bytes] | None:
    """Return a delivery and its body, or None."""
    query = (
        select(DELIVERIES, JOBS.c.state, STEPS.c.ready_at, STEPS.c.reason)
        .join(JOBS, JOBS.c.id == DELIVERIES.c.id)
        .join(STEPS, STEPS.c.job_id == DELIVERIES.c.id)
        .where(DELIVERIES.c.id == delivery_id)
    )
    row: Any = connection.execute(query).first()
    return None if row is None else (_view(row), row.body)


def _view(row: Row[Any]) -> DeliveryView:
    state: State = _WORDS.get(row.state, "failed")
    next_at = row.ready_at if state == "pending" else None
    error = None if state == "delivered" else row.reason or row.error
    return copied(DeliveryView, row, state=state, next_at=next_at, error=error)


AT_ONCE: Final = 500
TWICE_MS: Final = 600_000  # what was sent again within this time is not once more


@dataclass(frozen=True, slots=True)
class Preview:
    """A preview of a replay: failed or dropped deliveries, delivered ones, and those left out since they were sent
    again a moment ago.
    """

    failed: int
    delivered: int
    just_now: int


def preview(connection: Connection, which: Range, *, delivered: bool) -> Preview:
    """Return what `replay` would send again: without `delivered` only what failed or was dropped."""
    what = case((_twice(clock(connection)), "just_now"), else_=JOBS.c.state).label("what")
    query = (
        select(what, func.count())
        .select_from(DELIVERIES.join(JOBS, JOBS.c.id == DELIVERIES.c.id))
        .where(which.condition(), JOBS.c.state.in_(_replayable(delivered=True)), _has_receiver())
        .group_by("what")
    )
    counts: dict[str, int] = dict(iter(connection.execute(query)))
    return Preview(
        failed=counts.get("dead", 0) + counts.get(DROPPED, 0),
        delivered=counts.get("done", 0) if delivered else 0,
        just_now=counts.get("just_now", 0),
    )


def replay(connection: Connection, which: Range, *, delivered: bool) -> int:
    """Send a bounded number of these again, the oldest first, each under the id that it had, and return how many.

    Call it until it finds none.

    A delivery that was sent again a moment ago is left out: a double click sends nothing twice.
    """
    now = clock(connection)
    state = JOBS.c.state.in_(_replayable(delivered=delivered))
    query = (
        select(JOBS.c.id)
        .join(DELIVERIES, DELIVERIES.c.id == JOBS.c.id)
        .where(which.condition(), state, _has_receiver(), ~_twice(now))
        .order_by(DELIVERIES.c.created_at, JOBS.c.id)
        .limit(AT_ONCE)
    )
    # Whoever was quicker with all that we saw has changed that alone: there may be more.
    while ids := list(connection.execute(query).scalars()):
        # Lock order: jobs in the order of their ids, steps.
        locked = select(JOBS.c.id).where(among(connection, JOBS.c.id, ids), state).order_by(JOBS.c.id)
        free = list(connection.execute(locked.with_for_update()).scalars())
        marked = (
            update(DELIVERIES)
            .where(among(connection, DELIVERIES.c.id, free), ~_twice(now))
            .values(replayed_at=now)
            .returning(DELIVERIES.c.id)
        )
        if chosen := list(connection.execute(marked).scalars()):
            _revive(connection, chosen, now)
            return len(chosen)
    return 0


def _replayable(*, delivered: bool) -> list[str]:
    failed = ["dead", DROPPED]
    return [*failed, "done"] if delivered else failed


def _has_receiver() -> ColumnElement[bool]:
    """Exclude deliveries whose endpoint is gone: they would be dropped again."""
    known = select(ENDPOINTS.c.id).where(ENDPOINTS.c.id == DELIVERIES.c.endpoint_id).exists()
    return or_(JOBS.c.state != DROPPED, known)


def _twice(now: int) -> ColumnElement[bool]:
    return and_(DELIVERIES.c.replayed_at.is_not(None), DELIVERIES.c.replayed_at > now - TWICE_MS)


def _revive(connection: Connection, ids: Sequence[str], now: int) -> None:
    connection.execute(
        update(JOBS)
        .where(among(connection, JOBS.c.id, ids))
        .values(state="active", ended_at=None, accepted_at=now, replays=JOBS.c.replays + 1)
    )
    connection.execute(
        update(STEPS)
        .where(among(connection, STEPS.c.job_id, ids))
        .values(state="ready", attempts=0, crashes=0, ready_at=now, ended_at=None, reason=None, claim_id=None,
                deadline=now + PATIENCE_MS)
    )  # fmt: skip
    connection.execute(
        update(DEAD_LETTERS)
        .where(among(connection, DEAD_LETTERS.c.job_id, ids), DEAD_LETTERS.c.replayed_at.is_(None))
        .values(replayed_at=now)
    )
