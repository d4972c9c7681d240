"""Records to Kafka: idempotent, `acks=all`, bounded in bytes and time. The caller is told the outcome of each."""

import atexit
import logging
import os
import threading
import weakref
from functools import partial
from math import isfinite

from kafka.errors import KafkaError

from headrace_producers.admin import missing_topics
from headrace_producers.carrier import Carrier
from headrace_producers.errors import CLOSED, DeliveryFailed, ProducerClosed, TopicMissing, no_broker
from headrace_producers.link import Link
from headrace_producers.pending import PendingRecords
from headrace_producers.settings import KafkaSettings
from headrace_producers.sink import Record
from headrace_producers.teller import OnDelivery, Teller
from headrace_schemas.errors import ConfigurationError, HeadraceError, Unavailable
from headrace_schemas.topics import Topic

_log = logging.getLogger(__name__)

_RECORD_OVERHEAD = 128  # bytes that a record takes in addition to its key, headers and value
_REQUEST_SECONDS = 10.0  # a broker that is silent for longer is asked again on a new connection
_LAST_WORDS_SECONDS = 1.0  # at the end of a process that did not close its producer
_TELLING_SECONDS = 10.0  # for `on_delivery`, when `close` gives up


class KafkaSink:
    """Sink that sends records to Kafka, across restarts of the broker and failures of the client, in order per key.

    A record is confirmed, or has failed `delivery_timeout` seconds after it was taken, whatever the broker does; which
    of them is told once, by `on_delivery(job_id, error | None)` and by the next `flush` or `close`. Until then it is
    sent again as often as needed, with all that came after it, under the same event id: the topic may hold a record
    more than once, and its first copy is in order. A record that has failed may still arrive.

    `linger_ms` and `batch_bytes`: a batch goes when it is full or that old; while one is on its way the next fills, so
    that waiting is not needed for speed. `buffer_bytes` bounds the records that wait to be confirmed; the client holds
    a second copy of them. `max_block`: seconds that a call waits for room in the buffer, or for the broker, before it
    raises. `on_delivery` is called on a thread of the sink: keep it short. It may send, but then never waits for room,
    and must not flush or close. Raises Unavailable when no broker answers.
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
        _check(linger_ms=linger_ms, batch_bytes=batch_bytes, buffer_bytes=buffer_bytes, max_block=max_block)
        _check(delivery_timeout=delivery_timeout)
        self._settings = settings
        self._max_block = max_block
        self._pid = os.getpid()
        self._known: set[Topic] = set()
        self._pending = pending = PendingRecords(buffer_bytes, delivery_timeout, _REQUEST_SECONDS)

        def connect() -> Link:
            return Link(
                settings,
                pending,
                linger_ms=linger_ms,
                batch_bytes=batch_bytes,
                connect_timeout=max(1.0, max_block),
                # Half of a record's time: what was lost on a dead connection is sent once more while there is some. To
                # a broker that was only stopped for as long, a new connection costs a moment, and no record.
                request_timeout=min(_REQUEST_SECONDS, max(0.1, delivery_timeout / 2)),
            )

        try:
            first = connect()
        except KafkaError as error:
            raise no_broker(settings.address, error) from error
        at_exit = partial(_end, pending, self._pid)
        atexit.register(at_exit)
        # The threads know `pending` and not the sink: when nobody holds it any more they finish, and end.
        weakref.finalize(self, _finish, pending, self._pid).atexit = False
        self._carrier = Carrier(pending, first, connect)
        self._teller = Teller(pending, on_delivery, at_end=partial(atexit.unregister, at_exit))
        self._carrier.start()
        self._teller.start()

    def send(self, record: Record) -> None:
        """Take one record; `flush`, `close` and `on_delivery` report its outcome."""
        self._check_process()
        if self._pending.closed:
            raise ProducerClosed(CLOSED)
        if record.topic not in self._known:
            self._find(record.topic)
        size = _RECORD_OVERHEAD + len(record.key) + len(record.value) + sum(len(k) + len(v) for k, v in record.headers)
        self._pending.add(record, size, 0.0 if self._telling() else self._max_block)

    def flush(self, timeout: float) -> None:
        """Wait until all that was sent before is confirmed or has failed; DeliveryFailed lists the latter."""
        self._check_process()
        self._check_thread()
        in_time = self._pending.wait(timeout)
        self._raise_failures()
        if not in_time:
            trouble = f" ({self._pending.trouble})" if self._pending.trouble else ""
            raise Unavailable(
                f"{len(self._pending)} records are not confirmed by {self._settings.address} after {timeout:g} s"
                f"{trouble}; they stay in the buffer: flush again, or close"
            )

    def close(self, timeout: float) -> None:
        """Flush and disconnect. Records that are not confirmed in time count as failed. Closing twice does nothing.

        In the child of a fork it does nothing: the records on their way belong to the parent.
        """
        if os.getpid() != self._pid:
            return
        self._check_thread()
        if not self._pending.close():
            return
        try:
            self._pending.wait(timeout)
        finally:  # also when the wait is interrupted
            self._pending.abandon(f"not confirmed within {timeout:g} s before the producer was closed")
            self._teller.join(_TELLING_SECONDS)
            self._carrier.join(_LAST_WORDS_SECONDS)
        self._raise_failures()

    def _find(self, topic: Topic) -> None:
        name = self._settings.topic(topic)
        # List all topics: some brokers create a topic that is merely asked about, against the client's wish.
        if missing_topics(self._settings, (topic,), timeout=self._max_block):
            raise TopicMissing(
                f"topic {name!r} is not there on {self._settings.address}: `headrace init` makes it "
                "(and `headrace up`); or correct HEADRACE_TOPIC_PREFIX"
            )
        self._known.add(topic)

    def _raise_failures(self) -> None:
        failures, count = self._pending.take_failures()
        if count:
            raise DeliveryFailed(failures, count)

    def _telling(self) -> bool:
        return threading.current_thread() is self._teller

    def _check_thread(self) -> None:
        if self._telling():
            raise HeadraceError("on_delivery may not flush or close: both wait for it to return")

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ProducerClosed("this producer was built before a fork: build one in each process, after the fork")


def _check(**settings: float) -> None:
    for name, value in settings.items():
        least = "at least 0" if name in ("linger_ms", "max_block") else "greater than 0"
        if not isfinite(value) or value < 0 or (value == 0 and least == "greater than 0"):
            raise ConfigurationError(f"{name} is {value}; it must be {least}")


def _finish(pending: PendingRecords, pid: int) -> None:
    """Deliver the records of a sink that is no longer referenced, and end its threads."""
    if os.getpid() == pid:  # in a fork, a thread that is not there may hold its lock for ever
        pending.close()


def _end(pending: PendingRecords, pid: int) -> None:
    """Close the sink when the process ends and nobody has closed it."""
    _finish(pending, pid)
    if os.getpid() == pid and not pending.wait(_LAST_WORDS_SECONDS):
        _log.warning("%d records were not confirmed when the process ended: close a producer to wait", len(pending))
