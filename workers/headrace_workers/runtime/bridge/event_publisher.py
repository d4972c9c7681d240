"""Publisher of events to Kafka, with the outcome of each. Only the thread that calls it may use it."""

import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kafka.errors import (
    InvalidRecordError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from headrace_producers.kafka_internals import stop_sending
from headrace_producers.settings import KafkaSettings
from headrace_producers.words import words
from headrace_schemas import Topic
from headrace_workers.core.ledger.outbox import OutboxRow
from headrace_workers.runtime.bridge.destinations import Destination, Destinations, Shut

PRODUCER = {
    "acks": "all",
    "enable_idempotence": True,
    "linger_ms": 50,  # `_start` ends it: what is sent at once goes in one request, and not in as many as there are rows
    "batch_size": 256 * 1024,
    "max_request_size": 8 * 1024**2,
    "bootstrap_timeout_ms": 10_000,
    "max_block_ms": 10_000,  # a stop must not wait a minute for a broker that is unavailable
    "request_timeout_ms": 10_000,
    "delivery_timeout_ms": 30_000,
    "reconnect_backoff_max_ms": 2_000,  # its default of 30 s would leave a broker that is back without events
    "metrics_enabled": False,
}
# Larger records may be too large for their topic: that must be known before those under the same key are sent.
_LARGE = 64 * 1024
_CLOSE_SECONDS = 2.0
_BELIEVED_SECONDS = 10.0  # after the broker refused a record for its size, larger ones are not sent: it ends a client
LOOK_EVERY = 0.5  # while a row is waited for: whether its place is there at all

# Errors by which a record will never be taken: the broker's, and the client's before it is sent.
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_REFUSED = (*_TOO_LARGE, InvalidRecordError)
_REFUSED_HERE = (*_REFUSED, TypeError, ValueError)


@dataclass(slots=True)
class Published:
    """Result of publishing rows: confirmed by Kafka, refused for good (number and reason), and the first other error.

    `shut` are places that take nothing now, with the reason. Without an error all rows that are neither confirmed nor
    refused were left for that: their place is shut, or they follow such a row under its key.
    """

    confirmed: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    error: BaseException | None = None
    shut: dict[Destination, str] = field(default_factory=dict)


class _Run:
    """State of one call of `publish`: results of its rows so far."""

    def __init__(self, timestamp: int, seconds: float) -> None:
        self.timestamp = timestamp
        self.begun = time.monotonic()
        self.until = self.begun + seconds
        self.done = Published()
        self.held: set[str] = set()  # keys with an unconfirmed row: their later rows are sent again, after it
        self.refusals: dict[int, Exception] = {}
        self.open: set[Topic] = set()  # that need not be looked for any more

    def refuse(self, row: OutboxRow, reason: str) -> None:
        """Note that Kafka will never take a row."""
        self._hold(row)
        self.done.refused[row.id] = reason

    def leave(self, row: OutboxRow, shut: Shut) -> None:
        """Note that a row is not taken now."""
        self._hold(row)
        self.done.shut[shut.place] = shut.reason

    def fail(self, row: OutboxRow, error: Exception) -> None:
        """Note that a row was not confirmed."""
        self._hold(row)
        if self.done.error is None:
            self.done.error = error

    def _hold(self, row: OutboxRow) -> None:
        if row.record.key is not None:
            self.held.add(row.record.key)


class _Following:
    """Rows, each with all that comes after it under its key."""

    def __init__(self) -> None:
        self.rows: list[OutboxRow] = []
        self._keys: set[str] = set()

    def follows(self, row: OutboxRow) -> bool:
        """Return True if one of them came before this under its key."""
        return row.record.key in self._keys

    def add(self, row: OutboxRow) -> None:
        """Add a row, in order."""
        self.rows.append(row)
        if row.record.key is not None:
            self._keys.add(row.record.key)


@dataclass(slots=True)
class _Bound:
    """Records of this many bytes were too large for a topic, as the broker said a moment ago.

    It holds until a time, and for rows with a number above `seen`, which no earlier call of `publish` had: a row that
    comes again was let go by a person, who may have raised the topic's bound, and so the broker is asked.
    """

    size: int
    until: float
    seen: int


class Publisher:
    """A kafka-python producer that keeps its time limits, and is made anew after each failure."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._producer: Any = None
        self._places = Destinations(kafka)
        self._bounds: dict[Topic, _Bound] = {}

    def publish(self, rows: Sequence[OutboxRow], *, timestamp: int, seconds: float) -> Published:
        """Send all and wait for all, `seconds` at most. `timestamp` (ms) is the records' in Kafka."""
        run = _Run(timestamp, seconds)
        for wave in waves(rows, self._places.doubtful_topics):
            doubted = self._send_all(wave, run)
            if doubted:
                # A refusal is the end of an idempotent client: it fails all that follows with the same error. So each
                # is asked about alone, by a new one.
                self.close(_CLOSE_SECONDS)
                self._ask_again(doubted, run)
        for bound in self._bounds.values():
            bound.seen = max([bound.seen, *(row.id for row in rows)])
        if self._places.doubtful_topics:
            confirmed = set(run.done.confirmed)
            self._places.taken({row.record.topic for row in rows if row.id in confirmed}, run.done.shut)
        if run.done.error is not None or run.done.shut:
            self.close(_CLOSE_SECONDS)  # what is in its buffer must not be sent after what we send again
        return run.done

    def _ask_again(self, doubted: Sequence[OutboxRow], run: _Run) -> None:
        """Send rows of one wave again, of which some are refused, each alone.

        Small rows go first, together, and then the large ones by size: the first one that is too large says it of all
        that are no smaller. In a wave no row follows a large one under its key.
        """
        small = [row for row in doubted if not _is_large(row)]
        large = sorted((row for row in doubted if _is_large(row)), key=size_of)
        if large and small:
            small = self._send_all(small, run)
            if small:
                self.close(_CLOSE_SECONDS)
        for row in (*small, *large):
            if self._send_all([row], run):
                self._too_large(row, run.refusals[row.id])
                run.refuse(row, self._why(row, run.refusals[row.id]))
                self.close(_CLOSE_SECONDS)

    def _too_large(self, row: OutboxRow, error: Exception) -> None:
        """Remember that the broker has refused a row for its size, if that was why."""
        if isinstance(error, _TOO_LARGE):
            known = self._bounds.get(row.record.topic)
            now, size, seen = time.monotonic(), size_of(row), 0
            if known is not None and now < known.until:
                size, seen = min(size, known.size), known.seen
            self._bounds[row.record.topic] = _Bound(size, now + _BELIEVED_SECONDS, seen)

    def _is_too_large(self, row: OutboxRow) -> bool:
        """Return True for a row that is as large as what the broker refused a moment ago."""
        bound = self._bounds.get(row.record.topic)
        return (
            bound is not None and size_of(row) >= bound.size and row.id > bound.seen and time.monotonic() < bound.until
        )

    def close(self, seconds: float) -> None:
        """Disconnect from the broker within `seconds`, whatever the library does. Unsent records are dropped."""
        producer, self._producer = self._producer, None
        if producer is None:
            return

        def close() -> None:
            with suppress(Exception):
                stop_sending(producer, seconds)
            with suppress(Exception):
                producer.close(timeout=0)

        thread = threading.Thread(target=close, name="close-producer", daemon=True)
        thread.start()
        thread.join(seconds)

    def _send_all(self, rows: Sequence[OutboxRow], run: _Run) -> list[OutboxRow]:
        """Send these and wait for all; return the refused ones, with the rows that follow them under their keys."""
        known = len(run.done.shut)
        doubted, unsure = _Following(), _Following()
        failures: list[tuple[OutboxRow, Exception]] = []
        for row, future in self._start(rows, run):
            if row.record.key in run.held:
                continue
            error = self._outcome(row, future, run)
            if error is None and not doubted.rows and not unsure.rows:  # mostly
                run.done.confirmed.append(row.id)
            elif doubted.follows(row) or isinstance(error, _REFUSED):
                if isinstance(error, _REFUSED):
                    run.refusals[row.id] = error
                doubted.add(row)
            elif isinstance(error, Shut):
                run.leave(row, error)
            elif unsure.follows(row) or error is not None:
                if error is not None:
                    failures.append((row, error))
                unsure.add(row)
            else:
                run.done.confirmed.append(row.id)
        if unsure.rows and len(run.done.shut) > known:
            # A topic that is forbidden is the end of the client, too. Each time at least one more is known.
            self.close(_CLOSE_SECONDS)
            return doubted.rows + self._send_all(unsure.rows, run)
        for row, error in failures:
            run.fail(row, error)
        return doubted.rows

    def _start(self, rows: Sequence[OutboxRow], run: _Run) -> list[tuple[OutboxRow, Any]]:
        """Begin to send these, but none that follows under its key what cannot be sent; each with its future."""
        sent = []
        for row in rows:
            if run.done.error is not None or row.record.key in run.held:
                continue
            if self._is_too_large(row):
                run.refuse(row, self._why(row, MessageSizeTooLargeError()))
                continue
            try:
                sent.append((row, self._send(row, run)))
            except Shut as shut:
                run.leave(row, shut)
            except _REFUSED_HERE as error:
                run.refuse(row, self._why(row, error))
            except Exception as error:
                run.fail(row, error)
        if self._producer is not None:
            # It waits for all, and raises for the first that fails; the outcome of each is read below.
            with suppress(Exception):
                self._producer.flush(LOOK_EVERY)
        return sent

    def _send(self, row: OutboxRow, run: _Run) -> Any:
        if self._producer is None:
            from kafka import KafkaProducer

            options = {**PRODUCER, "partitioner": self._places.partitions}
            self._producer = KafkaProducer(**self._kafka.client_options(), **options)
        if (row.record.topic not in run.open or run.done.shut) and self._places.look_for(
            self._producer, row.record, run.done.shut
        ):
            run.open.add(row.record.topic)
        return self._producer.send(
            self._kafka.topic(row.record.topic),
            key=row.record.key.encode() if row.record.key else None,
            value=row.record.value,
            headers=[(name, text.encode()) for name, text in row.record.headers.items()],
            timestamp_ms=run.timestamp,
        )

    def _outcome(self, row: OutboxRow, future: Any, run: _Run) -> Exception | None:
        """Wait for a row; None when Kafka has it."""
        while True:
            left = run.until - time.monotonic()
            try:
                future.get(timeout=max(0.0, min(LOOK_EVERY, left)))
                return None
            except KafkaTimeoutError as error:
                shut = self._places.shut(self._producer, row.record, run.done.shut, time.monotonic() - run.begun)
                if shut is not None or future.is_done or left <= LOOK_EVERY:
                    return shut or error
            except TopicAuthorizationFailedError as error:
                return self._places.forbidden(row.record, error) or error
            except _REFUSED as error:
                refused: Exception = error
                return refused
            except Exception as error:
                waited = time.monotonic() - run.begun
                return self._places.shut(self._producer, row.record, run.done.shut, waited) or error

    def _why(self, row: OutboxRow, error: Exception) -> str:
        topic = self._kafka.topic(row.record.topic)
        if isinstance(error, _TOO_LARGE):
            return (
                f"{len(row.record.value):,} bytes are more than the topic {topic} takes: raise its max.message.bytes "
                "(`headrace doctor` says to what), then `headrace dead replay --events`"
            )
        return f"it is refused on the topic {topic}: {words(error)}"


def size_of(row: OutboxRow) -> int:
    """Return the bytes of a row as a record, but for what all records have."""
    record = row.record
    names = sum(len(name) + len(text.encode()) for name, text in record.headers.items())
    return len(record.value) + len(record.key or "") + names


def _is_large(row: OutboxRow) -> bool:
    return len(row.record.value) > _LARGE


def waves(rows: Sequence[OutboxRow], doubtful: Collection[Topic] = ()) -> Iterator[list[OutboxRow]]:
    """Yield the rows in order, in parts: what follows a large row, or one of a doubtful topic, under its key is in a
    later part than that.
    """
    wave: list[OutboxRow] = []
    unsure: set[str] = set()
    for row in rows:
        key = row.record.key
        if key in unsure:
            yield wave
            wave, unsure = [], set()
        wave.append(row)
        if key is not None and (_is_large(row) or row.record.topic in doubtful):
            unsure.add(key)
    if wave:
        yield wave
