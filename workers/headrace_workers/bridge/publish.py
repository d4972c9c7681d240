"""Events to Kafka, and what became of each. Belongs to the thread that calls it."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from kafka.errors import InvalidRecordError, MessageSizeTooLargeError, RecordListTooLargeError
from kafka.partitioner.default import DefaultPartitioner, murmur2

from headrace_producers.settings import KafkaSettings
from headrace_workers.away import words
from headrace_workers.ledger.outbox import OutboxRow

_PRODUCER = {
    "acks": "all",
    "enable_idempotence": True,
    "linger_ms": 0,
    "batch_size": 256 * 1024,
    "max_request_size": 8 * 1024**2,
    "bootstrap_timeout_ms": 10_000,
    "max_block_ms": 10_000,  # a stop must not wait a minute for a broker that is away
    "request_timeout_ms": 10_000,
    "delivery_timeout_ms": 30_000,
    "reconnect_backoff_max_ms": 2_000,  # its default of 30 s would leave a broker that is back without events
    "metrics_enabled": False,
}
# What is larger may be too large for its topic: that must be known before what follows under its key is sent.
_LARGE = 64 * 1024
_CLOSE_SECONDS = 2.0

# What says that a record will never be taken: by the broker, and by the client before it is sent.
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_REFUSED = (*_TOO_LARGE, InvalidRecordError)
_REFUSED_HERE = (*_REFUSED, TypeError, ValueError)


@dataclass(slots=True)
class Published:
    """What became of rows: confirmed by Kafka, refused for good (number and reason), and the first other error.

    Rows that are in neither were not sent, or nobody knows.
    """

    confirmed: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    error: BaseException | None = None


class _Run:
    """One call of `publish`: what is known of its rows so far."""

    def __init__(self, timestamp: int, until: float) -> None:
        self.timestamp = timestamp
        self.until = until
        self.done = Published()
        self.held: set[str] = set()  # keys of which a row is not confirmed: what follows is sent again, behind it
        self.refusals: dict[int, Exception] = {}

    def refuse(self, row: OutboxRow, reason: str) -> None:
        """It will never be taken."""
        self._hold(row)
        self.done.refused[row.id] = reason

    def fail(self, row: OutboxRow, error: Exception) -> None:
        """It was not confirmed."""
        self._hold(row)
        if self.done.error is None:
            self.done.error = error

    def _hold(self, row: OutboxRow) -> None:
        if row.record.key is not None:
            self.held.add(row.record.key)


class _Partitions(DefaultPartitioner):  # type: ignore[misc]  # the library has no types
    """Kafka's own: the same key, the same partition. A job's events are hashed once, in Python, and not each time."""

    def __init__(self) -> None:
        self._hash = lru_cache(maxsize=8_192)(murmur2)

    def partition(
        self, topic: str, key: Any, serialized_key: bytes | None, value: Any, serialized_value: Any, cluster: Any
    ) -> int:
        """The partition of a record."""
        if serialized_key is None:
            return int(super().partition(topic, key, serialized_key, value, serialized_value, cluster))
        partitions = sorted(cluster.partitions_for_topic(topic))
        return int(partitions[(self._hash(serialized_key) & 0x7FFFFFFF) % len(partitions)])


class Publisher:
    """A kafka-python producer that keeps its time limits, and is made anew after each failure."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._producer: Any = None
        self._partitions = _Partitions()

    def publish(self, rows: Sequence[OutboxRow], *, timestamp: int, seconds: float) -> Published:
        """Send all and wait for all, `seconds` at most. `timestamp` (ms) is the records' in Kafka."""
        run = _Run(timestamp, time.monotonic() + seconds)
        for wave in waves(rows):
            doubted = self._send_all(wave, run)
            if doubted:
                # A refusal is the end of an idempotent client: it fails all that follows with the same error. So each
                # is asked about alone, by a new one.
                self.close(_CLOSE_SECONDS)
            for row in doubted:
                if self._send_all([row], run):
                    run.refuse(row, self._why(row, run.refusals[row.id]))
                    self.close(_CLOSE_SECONDS)
        if run.done.error is not None:
            self.close(_CLOSE_SECONDS)  # what is in its buffer must not be sent after what we send again
        return run.done

    def close(self, seconds: float) -> None:
        """Let go of the broker, within `seconds` whatever the library does: what is not sent is not sent any more."""
        producer, self._producer = self._producer, None
        if producer is None:
            return

        def close() -> None:
            # After a flush that was not complete the library's `close` raises, and its thread goes on sending.
            with suppress(Exception):
                producer._sender.force_close()
                producer._sender.join(seconds)
            with suppress(Exception):
                producer.close(timeout=0)

        thread = threading.Thread(target=close, name="close-producer", daemon=True)
        thread.start()
        thread.join(seconds)

    def _send_all(self, rows: Sequence[OutboxRow], run: "_Run") -> list[OutboxRow]:
        """Send these and wait for all; those that were refused, with what follows them under their keys."""
        sent: list[tuple[OutboxRow, Any]] = []
        for row in rows:
            if run.done.error is not None or row.record.key in run.held:
                continue
            try:
                sent.append((row, self._send(row, run.timestamp)))
            except _REFUSED_HERE as error:
                run.refuse(row, self._why(row, error))
            except Exception as error:
                run.fail(row, error)
        doubted: list[OutboxRow] = []
        doubted_keys: set[str | None] = set()
        for row, future in sent:
            try:
                future.get(timeout=max(0.0, run.until - time.monotonic()))
            except _REFUSED as error:
                run.refusals[row.id] = error
                doubted_keys.add(row.record.key)
            except Exception as error:
                run.fail(row, error)
                continue
            if row.record.key in doubted_keys and (row.record.key is not None or row.id in run.refusals):
                doubted.append(row)
            elif row.record.key not in run.held:
                run.done.confirmed.append(row.id)
        return doubted

    def _send(self, row: OutboxRow, timestamp: int) -> Any:
        if self._producer is None:
            from kafka import KafkaProducer

            self._producer = KafkaProducer(**self._kafka.client_options(), **_PRODUCER, partitioner=self._partitions)
        return self._producer.send(
            self._kafka.topic(row.record.topic),
            key=row.record.key.encode() if row.record.key else None,
            value=row.record.value,
            headers=[(name, text.encode()) for name, text in row.record.headers.items()],
            timestamp_ms=timestamp,
        )

    def _why(self, row: OutboxRow, error: Exception) -> str:
        topic = self._kafka.topic(row.record.topic)
        if isinstance(error, _TOO_LARGE):
            return (
                f"{len(row.record.value):,} bytes are more than the topic {topic} takes: raise its max.message.bytes "
                "(`headrace doctor` says to what), then `headrace outbox retry`"
            )
        return f"it is refused on the topic {topic}: {words(error)}"


def waves(rows: Sequence[OutboxRow]) -> Iterator[list[OutboxRow]]:
    """The rows in order, in parts: what follows a large row under its key is in a later part than that."""
    wave: list[OutboxRow] = []
    large: set[str] = set()
    for row in rows:
        key = row.record.key
        if key in large:
            yield wave
            wave, large = [], set()
        wave.append(row)
        if key is not None and len(row.record.value) > _LARGE:
            large.add(key)
    if wave:
        yield wave
