"""Events that have been decided and wait to be published. Written in the transaction that decided them."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    Select,
    bindparam,
    case,
    delete,
    func,
    literal,
    select,
    text,
    update,
)

from headrace_schemas import Envelope, Topic
from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import Event, topic_for, type_of
from headrace_workers.core.fields import copied
from headrace_workers.core.sql.database import among, bindparam_of, now_ms, one_of
from headrace_workers.core.sql.statements import SingleStatements, append, rows_of, run
from headrace_workers.core.tables import OUTBOX

SOURCE = "/headrace/ledger"
_MAX_REASON = 2_000


class Outgoing(NamedTuple):
    """A record to be published. `topic` is without the deployment's prefix."""

    topic: Topic
    key: str | None
    headers: dict[str, str]
    value: bytes


class OutboxRow(NamedTuple):
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
    """Return the record that tells of this event, keyed by job (or else by `key`) so that a job's events stay in
    order.
    """
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
    return Outgoing(topic_for(event), key, envelope.to_text(), encode_value(event))


def put(connection: Connection, records: Iterable[Outgoing]) -> None:
    """Add records at the end."""
    rows = [
        {"topic": str(r.topic), "key": r.key, "headers": to_json(r.headers).decode(), "value": r.value} for r in records
    ]
    append(connection, OUTBOX, rows)


def peek(
    where: Connection | SingleStatements,
    limit: int,
    max_bytes: int = 2**62,
    *,
    after: int = 0,
    unread: Collection[Topic] = (),
) -> list[OutboxRow]:
    """Return the oldest records that may be published, in order: so many, and values of so many bytes, but always one.

    Records after one that was set aside under the same key are left out: a job's events keep their order. Only records
    with a number above `after` are returned; records of the topics `unread` come without their values.
    """
    bounds = {"most": limit, "bytes": max_bytes, "after": after, "unread": [str(topic) for topic in unread]}
    rows = rows_of(where, _oldest(where.dialect.name), bounds)
    return [
        OutboxRow(number, Outgoing(Topic(topic), key, from_json(headers), value))
        for number, topic, key, headers, value in rows
    ]


@lru_cache
def _oldest(dialect: str) -> Select[Any]:
    aside = OUTBOX.alias("aside")
    behind = (
        select(aside.c.id)
        .where(aside.c.key == OUTBOX.c.key, text("aside.set_aside_at IS NOT NULL"), aside.c.id < OUTBOX.c.id)
        .exists()
    )
    # The limit comes before the sum: else the sum would read all that waits.
    unread = one_of(dialect, OUTBOX.c.topic, bindparam_of(dialect, OUTBOX.c.topic, name="unread"))
    value = case((unread, literal(b"")), else_=OUTBOX.c.value).label("value")
    first = (
        select(OUTBOX.c.id, OUTBOX.c.topic, OUTBOX.c.key, OUTBOX.c.headers, value)
        .where(OUTBOX.c.set_aside_at.is_(None), OUTBOX.c.id > bindparam("after", type_=BigInteger), ~behind)
        .order_by(OUTBOX.c.id)
        .limit(bindparam("most", type_=Integer))
        .subquery()
    )
    size = func.length(first.c.value)
    summed = select(first, (func.sum(size).over(order_by=first.c.id) - size).label("before")).subquery()
    columns = (summed.c[name] for name in ("id", "topic", "key", "headers", "value"))
    return select(*columns).where(summed.c.before < bindparam("bytes", type_=BigInteger)).order_by(summed.c.id)


def remove(connection: Connection, ids: Sequence[int]) -> None:
    """Forget records that Kafka has acknowledged."""
    if ids:
        run(connection, _gone(connection.dialect.name), {"ids": list(ids)})


@lru_cache
def _gone(dialect: str) -> Any:
    return delete(OUTBOX).where(one_of(dialect, OUTBOX.c.id, bindparam_of(dialect, OUTBOX.c.id, name="ids")))


@dataclass(frozen=True, slots=True)
class SetAside:
    """A record that Kafka refused, and how many wait behind it under its key. Times in ms since 1970."""

    id: int
    topic: str
    key: str | None
    event_type: str
    size: int  # bytes of its value
    reason: str
    set_aside_at: int
    behind: int


def set_aside(connection: Connection, reasons: Mapping[int, str]) -> None:
    """Leave records be until they are retried."""
    for number, reason in reasons.items():
        connection.execute(
            update(OUTBOX)
            .where(OUTBOX.c.id == number)
            .values(set_aside_at=now_ms(), set_aside_reason=reason.replace("\x00", "")[:_MAX_REASON])
        )


def aside(
    connection: Connection, limit: int = 100, key: str | None = None, ids: Sequence[int] | None = None
) -> list[SetAside]:
    """Return the events that were set aside, oldest first; with `key` only those under it, with `ids` only these."""
    later = OUTBOX.alias("later")
    behind = (
        select(func.count())
        .select_from(later)
        .where(later.c.key == OUTBOX.c.key, later.c.id > OUTBOX.c.id, later.c.set_aside_at.is_(None))
        .scalar_subquery()
    )
    columns = (OUTBOX.c.id, OUTBOX.c.topic, OUTBOX.c.key, OUTBOX.c.headers, OUTBOX.c.set_aside_at)
    query = (
        select(*columns, OUTBOX.c.set_aside_reason, func.length(OUTBOX.c.value).label("size"), behind.label("behind"))
        .where(text("outbox.set_aside_at IS NOT NULL"))
        .order_by(OUTBOX.c.id)
        .limit(limit)
    )
    if key is not None:
        query = query.where(OUTBOX.c.key == key)
    if ids is not None:
        query = query.where(among(connection, OUTBOX.c.id, list(ids)))
    return [
        copied(SetAside, row, event_type=json.loads(row.headers).get("ce_type", ""), reason=row.set_aside_reason)
        for row in connection.execute(query)
    ]


def retry(connection: Connection, ids: Sequence[int] | None = None) -> int:
    """Let these records, or all that were set aside, be published again, each in its old place; return how many."""
    statement = update(OUTBOX).where(text("outbox.set_aside_at IS NOT NULL"))
    if ids is not None:
        statement = statement.where(among(connection, OUTBOX.c.id, list(ids)))
    return connection.execute(statement.values(set_aside_at=None, set_aside_reason=None)).rowcount


def drop(connection: Connection, ids: Sequence[int]) -> int:
    """Give up for good the records that were set aside; return how many."""
    gone = delete(OUTBOX).where(text("outbox.set_aside_at IS NOT NULL"), among(connection, OUTBOX.c.id, list(ids)))
    return connection.execute(gone).rowcount
