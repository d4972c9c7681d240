"""What endpoints are told: written with its unit of work, read to be sent, and sent again.

A delivery is a unit (see units.py) whose content lies in a row of its own, so that what was delivered can be looked at,
and sent again as it was.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, func, select, true, update

from headrace_schemas.callback import ENDPOINT_DISABLED, Recipient
from headrace_schemas.uuids import Namespace
from headrace_workers.ledger import endpoints
from headrace_workers.ledger.database import among, clock, locks_rows, now_ms
from headrace_workers.ledger.lanes import BATCH
from headrace_workers.ledger.steps import NewStep
from headrace_workers.ledger.tables import DEAD_LETTERS, JOBS, STEPS
from headrace_workers.ledger.units import NewUnit, follow
from headrace_workers.ledger.webhook_tables import DELIVERIES, ENDPOINTS, LISTENS

STAGE: Final = "deliver"
PATIENCE_MS: Final = 6 * 86_400_000  # all attempts take 76 hours, and pauses of the receiver come on top
_GRAIN_MS: Final = 3_600_000  # deliveries of one hour are of one urgency: then tenants take turns
MOST_OPEN: Final = 10_000  # of one endpoint
_USUAL_RANK: Final = 4
_AT_ONCE: Final = 500
TWICE_MS: Final = 600_000  # what was sent again within this time is not once more

_MESSAGES: Final = Namespace(uuid.UUID("a1f1a3a2-0f5e-5c0b-9b63-5d0c1f2e7b44"))


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What one endpoint is to be told. `url` where it is not the endpoint's own."""

    id: str
    endpoint_id: str
    tenant: str
    type: str
    subject: str
    body: bytes
    url: str | None = None

    def row(self, now: int) -> dict[str, Any]:
        """Its row."""
        return {"id": self.id, "endpoint_id": self.endpoint_id, "tenant": self.tenant, "type": self.type,
                "subject": self.subject, "body": self.body, "url": self.url, "created_at": now}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be sent to an endpoint now."""

    id: str
    type: str
    url: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of an attempt: see `webhooks.courier.Reply`."""

    id: str
    ms: int
    status: int | None
    error: str | None
    answer: str


def message_id(event_id: str, event_type: str, endpoint_id: str) -> str:
    """The id of what an endpoint is told of an event: the same however often that is."""
    return _MESSAGES.id_of(f"{event_id}\n{event_type}\n{endpoint_id}")


def unit(delivery: NewDelivery, about: str, now: int) -> NewUnit:
    """The work of a delivery. `about`: the job that it follows, which is kept as long as this is open."""
    deadline = now + PATIENCE_MS
    return NewUnit(
        id=delivery.id,
        subject=about,
        tenant=delivery.tenant,
        endpoint=delivery.endpoint_id,
        most_open=MOST_OPEN,
        delivery=delivery,
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
    """A webhook's body: `type`, `timestamp` and `data` of Standard Webhooks, and what OpenAI's client reads beside."""
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

    `subject` is the id of what it is about, of at most 64 characters. `data` is told with that id. What may happen to
    a subject more than once has a name for each time, its `occurrence`.
    """
    now = clock(connection)
    asked = select(ENDPOINTS).where(LISTENS, ENDPOINTS.c.tenant == tenant)
    listening = map(endpoints.endpoint_of, connection.execute(asked))
    told: dict[str, str | None] = {each.id: None for each in listening if event_type in each.events}
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
    return follow(connection, units)


def tell_disabled(connection: Connection, endpoint_id: str) -> None:
    """Tell the tenant's other endpoints that this one was disabled."""
    found = endpoints.get(connection, endpoint_id)
    if found is not None:
        announce(
            connection,
            tenant=found.tenant,
            event_type=ENDPOINT_DISABLED,
            subject=endpoint_id,
            data={"url": found.url, "reason": found.disabled},
            occurrence=str(clock(connection)),
        )


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, for what counts as one receiver."""
    return "/".join(url.split("/", 3)[:3]).lower()


# -- sending


def due(connection: Connection, ids: Sequence[str]) -> dict[str, Due]:
    """Those of these deliveries that are known, and whose endpoint is."""
    query = (
        select(
            DELIVERIES.c.id,
            DELIVERIES.c.type,
            func.coalesce(DELIVERIES.c.url, ENDPOINTS.c.url).label("url"),
            DELIVERIES.c.body,
        )
        .join(ENDPOINTS, ENDPOINTS.c.id == DELIVERIES.c.endpoint_id)
        .where(among(connection, DELIVERIES.c.id, ids))
    )
    return {row.id: Due(row.id, row.type, row.url, row.body) for row in connection.execute(query)}


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
            {"delivery": each.id, "said": each.status, "took": each.ms, "why": each.error, "words": each.answer}
            for each in sorted(tries, key=lambda each: each.id)
        ]
        connection.execute(_NOTE, rows)


# -- people


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Which deliveries are meant: of an endpoint or a tenant, made from `since` to before `until` (ms)."""

    endpoint_id: str | None = None
    tenant: str | None = None
    since: int | None = None
    until: int | None = None

    def condition(self) -> ColumnElement[bool]:
        """As SQL."""
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


State = Literal["pending", "delivered", "failed"]
_STATES: Final[Mapping[State, str]] = {"pending": "active", "delivered": "done", "failed": "dead"}
_WORDS: Final = {word: state for state, word in _STATES.items()}


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery as people see it. Times are in ms; `next_at`: of the next attempt, where there is one."""

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
    """Deliveries, newest first."""
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
    """One delivery, and its body."""
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
    return DeliveryView(
        id=row.id,
        endpoint_id=row.endpoint_id,
        tenant=row.tenant,
        type=row.type,
        subject=row.subject,
        url=row.url,
        state=state,
        attempts=row.attempts,
        created_at=row.created_at,
        attempted_at=row.attempted_at,
        next_at=row.ready_at if state == "pending" else None,
        status=row.status,
        ms=row.ms,
        error=None if state == "delivered" else row.reason or row.error,
        answer=row.answer,
        replayed_at=row.replayed_at,
    )


@dataclass(frozen=True, slots=True)
class Preview:
    """What sending again would send, by state; and what was left out, as it was sent again a moment ago."""

    failed: int
    delivered: int
    just_now: int


def preview(connection: Connection, which: Range, *, delivered: bool) -> Preview:
    """What `replay` would do. Without `delivered` only what failed is sent again."""
    now = clock(connection)
    states = _replayable(delivered)
    query = (
        select(JOBS.c.state, _twice(now).label("twice"), func.count().label("times"))
        .select_from(DELIVERIES.join(JOBS, JOBS.c.id == DELIVERIES.c.id))
        .where(which.condition(), JOBS.c.state.in_(["dead", "done"]))
        .group_by(JOBS.c.state, "twice")
    )
    counts = {(row.state, bool(row.twice)): row.times for row in connection.execute(query)}
    return Preview(
        failed=counts.get(("dead", False), 0),
        delivered=counts.get(("done", False), 0) if delivered else 0,
        just_now=sum(times for (state, twice), times in counts.items() if twice and (state in states or not delivered)),
    )


def replay(connection: Connection, which: Range, *, delivered: bool) -> int:
    """Send these again, a bounded number, the oldest first, each under the id that it had; how many. Call it until
    it finds none.

    What was sent again a moment ago is not sent once more, whatever became of it: a double click sends nothing twice.
    """
    now = clock(connection)
    query = (
        select(JOBS.c.id)
        .join(DELIVERIES, DELIVERIES.c.id == JOBS.c.id)
        .where(which.condition(), JOBS.c.state.in_(_replayable(delivered)), ~_twice(now))
        .order_by(DELIVERIES.c.created_at, JOBS.c.id)
        .limit(_AT_ONCE)
    )
    ids = list(connection.execute(query).scalars())
    if not ids:
        return 0
    # Lock order: jobs in the order of their ids, steps. Whoever was quicker has changed what we saw.
    locked = select(JOBS.c.id).where(among(connection, JOBS.c.id, ids), JOBS.c.state.in_(_replayable(delivered)))
    locked = locked.order_by(JOBS.c.id)
    free = list(connection.execute(locked.with_for_update() if locks_rows(connection) else locked).scalars())
    marked = (
        update(DELIVERIES)
        .where(among(connection, DELIVERIES.c.id, free), ~_twice(now))
        .values(replayed_at=now)
        .returning(DELIVERIES.c.id)
    )
    chosen = list(connection.execute(marked).scalars())
    _revive(connection, chosen, now)
    return len(chosen)


def _replayable(delivered: bool) -> list[str]:
    return ["dead", "done"] if delivered else ["dead"]


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
