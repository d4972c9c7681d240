"""Deliveries as people see them: which are meant, and how each stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, select, true

from headrace_workers.core.tables import DROPPED, JOBS, STEPS
from headrace_workers.features.webhooks.tables import DELIVERIES
from headrace_workers.features.webhooks.views import State


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


_STATES: Final[Mapping[State, str]] = {"pending": "active", "delivered": "done", "failed": "dead", "dropped": DROPPED}
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
