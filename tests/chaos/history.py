"""What a deployment did: every record on its topics and every row of its ledger, read with code of this file's own.

Nothing of headrace's codec or ledger is used: a checker that shares code with what it checks shares its mistakes.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

TOPICS = ("outputs", "moderated", "results", "dead")

_JOBS = "SELECT id, kind, state, terminal_type, terminal FROM jobs"
_STEPS = "SELECT job_id, stage, state, claim_id FROM steps"
_REFUSED = "SELECT refers_to FROM dead_letters WHERE stage = 'ingest' AND refers_to IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Event:
    """One record as it lies on a topic. `topic` is without the deployment's prefix."""

    topic: str
    partition: int
    offset: int
    id: str
    type: str
    time: str  # RFC 3339 in UTC with milliseconds, so that text order is time order
    job_id: str | None
    value: bytes
    refers_to: str | None = None  # of a dead letter about a refused record


@dataclass(frozen=True, slots=True)
class JobRow:
    id: str
    kind: str
    state: str
    terminal_type: str | None
    terminal: bytes | None


@dataclass(frozen=True, slots=True)
class StepRow:
    job_id: str
    stage: str
    state: str
    claim_id: int | None


@dataclass(frozen=True, slots=True)
class History:
    """All that can be known afterwards. `published` are the ids of the jobs that the broker confirmed to the test."""

    published: frozenset[str] = frozenset()
    events: tuple[Event, ...] = ()
    jobs: tuple[JobRow, ...] = ()
    steps: tuple[StepRow, ...] = ()
    refused: frozenset[str] = frozenset()  # jobs that were turned away at the door
    claims: int = 0
    outbox: int = 0
    forbidden: tuple[bytes, ...] = field(default=(), repr=False)  # texts that moderation must have stopped

    def of(self, published: Iterable[str]) -> "History":
        """The part about these jobs; outbox and claims stay whole."""
        ids = frozenset(published)
        return replace(
            self,
            published=ids,
            events=tuple(event for event in self.events if event.job_id in ids or event.refers_to in ids),
            jobs=tuple(row for row in self.jobs if row.id in ids),
            steps=tuple(row for row in self.steps if row.job_id in ids),
            refused=self.refused & ids,
        )


def read_history(
    *, bootstrap: str, prefix: str, ledger: str, published: Iterable[str], forbidden: Sequence[str] = ()
) -> History:
    """Read everything, once all is quiet. `ledger` is a SQLAlchemy URL, of which only the address is used."""
    jobs, steps, refused, claims, outbox = query(
        ledger, _JOBS, _STEPS, _REFUSED, "SELECT count(*) FROM claims", "SELECT count(*) FROM outbox"
    )
    return History(
        published=frozenset(published),
        events=read_events(bootstrap, prefix),
        jobs=tuple(JobRow(*row[:4], None if row[4] is None else bytes(row[4])) for row in jobs),
        steps=tuple(StepRow(*row) for row in steps),
        refused=frozenset(row[0] for row in refused),
        claims=int(claims[0][0]),
        outbox=int(outbox[0][0]),
        forbidden=tuple(text.encode() for text in forbidden),
    )


def query(ledger: str, *statements: str) -> list[list[tuple[Any, ...]]]:
    """The rows of each statement, all of one moment."""
    if ledger.startswith("sqlite"):
        # Autocommit off and a deferred BEGIN: in WAL mode all reads of one transaction see the same state.
        with closing(sqlite3.connect(ledger.partition(":///")[2], timeout=60, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            return [connection.execute(statement).fetchall() for statement in statements]
    import psycopg

    address = ledger.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(address, connect_timeout=60) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        return [connection.execute(statement).fetchall() for statement in statements]


_IDLE_IN_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND state_change < now() - interval '20 ms'
"""


def may_be_written(ledger: str) -> bool:
    """Whether nobody keeps the ledger locked: an SQLite file, or rows of a PostgreSQL (which ends that in 30 s)."""
    if not ledger.startswith("sqlite"):
        return query(ledger, _IDLE_IN_TRANSACTION)[0] == [(0,)]
    with closing(sqlite3.connect(ledger.partition(":///")[2], timeout=1, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True


def read_events(bootstrap: str, prefix: str, topics: Sequence[str] = TOPICS) -> tuple[Event, ...]:
    """Every record on these topics, decoded."""
    records = read_records(bootstrap, [prefix + topic for topic in topics])
    return tuple(_event(record.topic.removeprefix(prefix), record) for record in records)


def read_records(bootstrap: str, topics: Sequence[str], *, seconds: float = 240) -> list[Any]:
    """Every record on these topics from the beginning, as kafka-python gives it; TimeoutError when it stalls."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    try:
        partitions = [TopicPartition(name, p) for name in topics for p in sorted(consumer.partitions_for_topic(name))]
        consumer.assign(partitions)
        begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        consumer.seek_to_beginning(*partitions)
        left = {partition for partition in partitions if begins[partition] < ends[partition]}
        found: list[Any] = []
        until = time.monotonic() + seconds
        while left:
            if time.monotonic() > until:
                raise TimeoutError(f"{', '.join(topics)} cannot be read to their end within {seconds:g} s")
            found += [record for records in consumer.poll(timeout_ms=100).values() for record in records]
            # The embedded broker, asked for an end, leaves the last batch out; what a fetch tells is right everywhere.
            left = {item for item in left if consumer.position(item) < (consumer.highwater(item) or ends[item])}
        return found
    finally:
        consumer.close()


def _event(topic: str, record: Any) -> Event:
    headers = {name: (value or b"").decode() for name, value in record.headers}
    body = json.loads(record.value)
    return Event(
        topic=topic,
        partition=record.partition,
        offset=record.offset,
        id=headers["ce_id"],
        type=headers["ce_type"],
        time=headers["ce_time"],
        job_id=body.get("job_id"),
        value=record.value,
        refers_to=body.get("refers_to"),
    )
