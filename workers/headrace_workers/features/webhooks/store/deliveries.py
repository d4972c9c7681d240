"""Deliveries to endpoints, each written with its unit of work.

A delivery is a unit (see units.py) whose content lies in a row of its own, so that what was delivered can be looked at
(delivery_views.py), and sent again as it was (redelivery.py). attempts.py is what a worker reads and writes of it.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, select

from headrace_schemas.budget import BudgetReached
from headrace_schemas.callback import BUDGET_REACHED, ENDPOINT_DISABLED, Recipient
from headrace_schemas.uuids import Namespace
from headrace_workers.core.ledger.lanes import BATCH
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.ledger.units import NewUnit, follow
from headrace_workers.core.sql.database import among, clock
from headrace_workers.features.webhooks.store import endpoints
from headrace_workers.features.webhooks.tables import CALLBACKS_OF_JOBS, DELIVERIES, ENDPOINTS, LISTENS

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
        return {"id": self.id, "endpoint_id": self.endpoint_id, "tenant": self.tenant, "type": self.type,
                "subject": self.subject, "body": self.body, "url": self.url, "created_at": now}  # fmt: skip


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
    return follow(connection, units).count


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
