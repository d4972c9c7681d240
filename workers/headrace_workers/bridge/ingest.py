"""Kafka to ledger: poll, decide about each record, write all in one transaction, and only later commit the offsets."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headrace_producers.any_record import Unreadable
from headrace_producers.settings import KafkaSettings
from headrace_schemas.topics import INBOUND, topic_of
from headrace_workers.bridge.accept import KnownModels, Rules, accept
from headrace_workers.ledger.cancel import Cancellation
from headrace_workers.ledger.dead import Burial
from headrace_workers.ledger.ingest import NewJob
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.ledger.records import Record
from headrace_workers.log import Action, log
from headrace_workers.ports import Clock
from headrace_workers.wake import Hint

_POLL_MS = 100
# A poll that ends while the group still forms lets the client forget that it has joined, and it joins again. Brokers
# take some seconds over a first join.
_JOIN_MS = 8_000
_BATCH = 500
_COUNT_EVERY = 1.0  # seconds between looks at how full the ledger is
_RESUME_AT = 0.9  # of the bound
_ASK_CLOCK_EVERY = 1.0
# Seconds between commits while records keep coming. A successor reads again what was not committed, and passes it over.
_COMMIT_EVERY = 1.0

# A group's first join takes half the session timeout on some brokers; six seconds is also soon enough for a failover.
_CONSUMER = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "session_timeout_ms": 6_000,
    "heartbeat_interval_ms": 1_500,
    "max_poll_records": _BATCH,
    "reconnect_backoff_max_ms": 2_000,  # its default of 30 s would leave a broker that is back unread
}


def group_of(kafka: KafkaSettings) -> str:
    """The consumer group of all bridges of one deployment: it carries the prefix of its topics, as they do."""
    return f"{kafka.prefix}ingest"


class Ingest:
    """One consumer and the ledger. Belongs to the thread that calls `once`."""

    def __init__(
        self,
        *,
        kafka: KafkaSettings,
        ledger: Ledger,
        models: KnownModels,
        judge_model: str | None,
        max_active: int,
        clock: Clock,
    ) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._models = models
        self._judge_model = judge_model
        self._max_active = max_active
        self._clock = clock
        self._consumer: Any = None
        self._counted_at = float("-inf")
        self._paused = False
        self._uncommitted_since: float | None = None
        self._asked_clock: tuple[int, float] | None = None  # what the ledger's clock said (ms), and when on ours

    def once(self, tell: Callable[[Hint], object]) -> None:
        """Take in what one poll brings. `tell` is called with what came of it. Kafka is told in the next lull."""
        consumer = self._open()
        self._watch_fullness(consumer)
        polled = consumer.poll(timeout_ms=_POLL_MS if consumer.assignment() else _JOIN_MS)
        records = [self._record(raw) for batch in polled.values() for raw in batch]
        if not records:
            self._commit(consumer)
            return
        try:
            hints = self._take(records)
        except BaseException:
            self._rewind(polled)
            raise
        for hint in hints:
            tell(hint)
        now = self._clock.monotonic()
        if self._uncommitted_since is None:
            self._uncommitted_since = now
        elif now - self._uncommitted_since > _COMMIT_EVERY:
            self._commit(consumer)

    def close(self) -> None:
        """Leave the group, so that others take over at once."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            try:
                self._commit(consumer)
            finally:
                consumer.close()

    def _commit(self, consumer: Any) -> None:
        if self._uncommitted_since is not None:
            consumer.commit()
            self._uncommitted_since = None

    def _take(self, records: list[Record]) -> list[Hint]:
        rules = Rules(self._models, self._judge_model, self._ledger_time())
        decided = [accept(record, rules) for record in records]
        jobs = [item for item in decided if isinstance(item, NewJob)]
        refused = [item for item in decided if isinstance(item, Burial)]
        cancellations = [item for item in decided if isinstance(item, Cancellation)]
        new = self._ledger.ingest(jobs, refused, cancellations)
        log("ingest", logging.DEBUG, Action.TAKEN, "took jobs in", new=new, known=len(jobs) - new)
        if refused:
            reasons = "; ".join(sorted({burial.reason[:120] for burial in refused})[:3])
            log("ingest", logging.WARNING, Action.REFUSED, f"refused: {reasons}", records=len(refused))
        return [Hint.WORK] * bool(jobs) + [Hint.EVENTS] * bool(refused or cancellations)

    def _ledger_time(self) -> int:
        """The ledger's clock (ms), asked at most once a second: deadlines are no finer than that."""
        now = self._clock.monotonic()
        if self._asked_clock is None or now - self._asked_clock[1] > _ASK_CLOCK_EVERY:
            self._asked_clock = self._ledger.now(), now
        told, at = self._asked_clock
        return told + int((now - at) * 1000)

    def _open(self) -> Any:
        if self._consumer is None:
            from kafka import KafkaConsumer

            from headrace_producers.any_record import read_any_record

            topics = [self._kafka.topic(topic) for topic in INBOUND]
            consumer = KafkaConsumer(group_id=group_of(self._kafka), **self._kafka.client_options(), **_CONSUMER)
            read_any_record(consumer)
            # A member that joins before it has seen the topics is given no partition for minutes: see them first.
            for topic in topics:
                consumer.partitions_for_topic(topic)
            consumer.subscribe(topics)
            self._consumer = consumer
            self._paused, self._uncommitted_since = False, None
        return self._consumer

    def _rewind(self, polled: Mapping[Any, Sequence[Any]]) -> None:
        """Polled but not written: read them again. Leaving the group would do too, but joining takes seconds."""
        from kafka.errors import KafkaError

        try:
            for partition, batch in polled.items():
                self._consumer.seek(partition, batch[0].offset)
        except (KafkaError, KeyError, AssertionError):  # no longer ours: its next owner begins at the committed offset
            consumer, self._consumer = self._consumer, None
            consumer.close()

    def _record(self, raw: Any) -> Record:
        topic = topic_of(raw.topic, self._kafka.prefix)
        unreadable = raw.headers.reason if isinstance(raw.headers, Unreadable) else None
        headers, timestamp = tuple(raw.headers or ()), raw.timestamp or 0
        return Record(topic, raw.partition, raw.offset, headers, raw.value, timestamp, raw.key, unreadable)

    def _watch_fullness(self, consumer: Any) -> None:
        """Pause while the ledger holds more than the bound; polling goes on, so that the group stays ours."""
        now = self._clock.monotonic()
        if now - self._counted_at < _COUNT_EVERY:
            return
        self._counted_at = now
        active = self._ledger.active_jobs()
        if active >= self._max_active:
            consumer.pause(*consumer.assignment())  # again and again: partitions may have been assigned since
            if not self._paused:
                log("ingest", logging.WARNING, Action.PAUSED, "the ledger is full: ingest waits", active=active)
            self._paused = True
        elif self._paused and active <= self._max_active * _RESUME_AT:
            consumer.resume(*consumer.paused())
            log("ingest", logging.INFO, Action.RESUMED, "ingest goes on", active=active)
            self._paused = False
