"""Events that have been decided and wait to be published. Written in the transaction that decided them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, select

from headrace_schemas import Envelope, Topic
from headrace_schemas.codec import Event, encode, topic_for, type_of
from headrace_workers.ledger.database import among
from headrace_workers.ledger.tables import OUTBOX

SOURCE = "/headrace/ledger"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to be published. `topic` is without the deployment's prefix."""

    topic: Topic
    key: str | None
    headers: dict[str, str]
    value: bytes


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A record in the outbox, with its number there."""

    id: int
    record: Outgoing


def outgoing(
    event: Event,
    *,
    event_id: str,
    job_id: str | None,
    traceparent: str | None,
    correlationid: str | None,
    at_ms: int,
    key: str | None = None,
) -> Outgoing:
    """The record that tells of this event, keyed by job (or else by `key`) so that a job's events stay in order."""
    key = job_id or key
    envelope = Envelope(
        id=event_id,
        type=type_of(event),
        source=SOURCE,
        time=datetime.fromtimestamp(at_ms / 1000, UTC),
        subject=job_id,
        partitionkey=key,
        traceparent=traceparent,
        correlationid=correlationid,
    )
    headers, value = encode(event, envelope)
    return Outgoing(topic_for(event), key, {name: text.decode() for name, text in headers}, value)


def put(connection: Connection, records: Iterable[Outgoing]) -> None:
    """Add records at the end."""
    rows = [{"topic": str(r.topic), "key": r.key, "headers": json.dumps(r.headers), "value": r.value} for r in records]
    if rows:
        connection.execute(OUTBOX.insert(), rows)


def peek(connection: Connection, limit: int) -> list[OutboxRow]:
    """The oldest records, in order."""
    rows = connection.execute(
        select(OUTBOX.c.id, OUTBOX.c.topic, OUTBOX.c.key, OUTBOX.c.headers, OUTBOX.c.value)
        .order_by(OUTBOX.c.id)
        .limit(limit)
    )
    return [OutboxRow(row.id, Outgoing(Topic(row.topic), row.key, json.loads(row.headers), row.value)) for row in rows]


def remove(connection: Connection, ids: Sequence[int]) -> None:
    """Forget records that Kafka has acknowledged."""
    if ids:
        connection.execute(delete(OUTBOX).where(among(connection, OUTBOX.c.id, ids)))
