"""Records to Kafka: idempotent, `acks=all`, bounded, with every failed delivery told to the caller."""

import os
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from headrace_producers.admin import missing_topics
from headrace_producers.errors import DeliveryFailed, ProducerClosed, TopicMissing
from headrace_producers.pending import PendingRecords
from headrace_producers.settings import KafkaSettings
from headrace_producers.sink import Record
from headrace_schemas.errors import HeadraceError, Unavailable
from headrace_schemas.topics import Topic

OnDelivery = Callable[[str, HeadraceError | None], None]

_RECORD_OVERHEAD = 128  # bytes: what the client holds for a record beside its key, headers and value


class KafkaSink:
    """A kafka-python producer with a bound on what it holds.

    `linger_ms` and `batch_bytes`: a batch goes when it is full or that old; while one is on its way the next fills, so
    that waiting is not needed for speed. `max_block`: seconds that a call waits for room in the buffer, or for the
    broker, before it raises. `delivery_timeout`: seconds until a record that the broker does not confirm has failed.
    `on_delivery(job_id, error | None)` is called on the client's own thread for each record: keep it short. Raises
    Unavailable when no broker answers.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        linger_ms: int = 0,
        batch_bytes: int = 262_144,
        buffer_bytes: int = 33_554_432,
        max_block: float = 10.0,
        delivery_timeout: float = 120.0,
        on_delivery: OnDelivery | None = None,
    ) -> None:
        self._settings = settings
        self._max_block = max_block
        self._on_delivery = on_delivery
        self._pending = PendingRecords(buffer_bytes)
        self._known: set[Topic] = set()
        self._closing = Lock()
        self._closed = False
        self._pid = os.getpid()
        try:
            self._client = KafkaProducer(
                **settings.client_options(),
                acks="all",
                enable_idempotence=True,
                allow_auto_create_topics=False,
                linger_ms=linger_ms,
                batch_size=batch_bytes,
                max_block_ms=int(max_block * 1000),
                bootstrap_timeout_ms=int(max_block * 1000),
                # kafka-python wants delivery >= linger + request.
                request_timeout_ms=int(min(30.0, delivery_timeout / 2) * 1000),
                delivery_timeout_ms=int(delivery_timeout * 1000) + linger_ms,
                # Its default of 30 s would keep a producer waiting long after a broker is back.
                reconnect_backoff_max_ms=2_000,
                metrics_enabled=False,
            )
        except KafkaError as error:
            raise Unavailable(
                f"no Kafka broker answers at {settings.address} ({type(error).__name__}); "
                "start it, or set HEADRACE_KAFKA"
            ) from error

    def send(self, record: Record) -> None:
        """Hand one record to the client; what becomes of it is told by `flush`, `close` and `on_delivery`."""
        self._check_open()
        if record.topic not in self._known:
            self._find(record.topic)
        size = _RECORD_OVERHEAD + len(record.key) + len(record.value) + sum(len(k) + len(v) for k, v in record.headers)
        number = self._pending.add(record.job_id, size, self._max_block)
        try:
            future = self._client.send(
                self._settings.topic(record.topic), key=record.key, value=record.value, headers=record.headers
            )
        except BaseException as error:
            self._pending.done(number)
            if isinstance(error, KafkaError):
                raise Unavailable(f"job {record.job_id} was not sent: {_reason(error)}") from error
            raise
        future.add_callback(self._confirmed, number, record.job_id)
        future.add_errback(self._failed, number, record.job_id)

    def flush(self, timeout: float) -> None:
        """Wait until all that was sent before is confirmed or has failed; DeliveryFailed lists the latter."""
        self._check_process()
        in_time = self._pending.wait(timeout)
        self._raise_failures()
        if not in_time:
            raise Unavailable(
                f"{len(self._pending)} records are not confirmed by {self._settings.address} after {timeout:g} s; "
                "they stay in the buffer: flush again, or close"
            )

    def close(self, timeout: float) -> None:
        """Flush and disconnect. What is not confirmed in time counts as failed."""
        self._check_process()
        with self._closing:
            if self._closed:
                return
            self._closed = True
        if not self._pending.wait(timeout):
            self._pending.abandon(f"not confirmed within {timeout:g} s before the producer was closed")
        # After an incomplete flush kafka-python raises here too; its daemon thread then ends with the process.
        with suppress(KafkaTimeoutError):
            self._client.close(timeout=1.0)
        self._raise_failures()

    def _find(self, topic: Topic) -> None:
        name = self._settings.topic(topic)
        # Asked for by listing all: some brokers create a topic that is merely asked about, whatever the client says.
        if missing_topics(self._settings, (topic,), timeout=self._max_block):
            raise TopicMissing(
                f"topic {name!r} is not there on {self._settings.address}: `headrace up` creates it; "
                "else create it yourself, or correct HEADRACE_TOPIC_PREFIX"
            )
        try:
            self._client.partitions_for(name)
        except KafkaError as error:
            reason = f"topic {name!r} cannot be reached on {self._settings.address}: {_reason(error)}"
            raise Unavailable(reason) from error
        self._known.add(topic)

    def _confirmed(self, number: int, job_id: str, _metadata: Any) -> None:
        self._pending.done(number)
        if self._on_delivery:
            self._on_delivery(job_id, None)

    def _failed(self, number: int, job_id: str, error: BaseException) -> None:
        reason = _reason(error)
        self._pending.done(number, reason)
        if self._on_delivery:
            self._on_delivery(job_id, Unavailable(f"job {job_id} was not confirmed: {reason}"))

    def _raise_failures(self) -> None:
        failures, count = self._pending.take_failures()
        if count:
            raise DeliveryFailed(failures, count)

    def _check_open(self) -> None:
        self._check_process()
        if self._closed:
            raise ProducerClosed("the producer is closed: build a new one")

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ProducerClosed("this producer was built before a fork: build one in each process, after the fork")


def _reason(error: BaseException) -> str:
    """Kind and message of an error of the client, in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
