"""A kafka-python producer, used until its first failure."""

from threading import Lock
from typing import Any

from kafka import KafkaProducer
from kafka.errors import (
    AuthorizationError,
    InvalidRecordError,
    InvalidTimestampError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnsupportedForMessageFormatError,
    UnsupportedVersionError,
)

from headrace_producers.connecting import connect
from headrace_producers.errors import RecordRefused, RecordTooLarge, WriteForbidden
from headrace_producers.kafka_internals import abandon, mistrust_lost_ids
from headrace_producers.pending import PendingRecords
from headrace_producers.settings import KafkaSettings
from headrace_producers.sink import Record
from headrace_producers.words import words
from headrace_schemas import Topic

# Errors that the broker would raise for a record again. All others may pass when the record is sent again.
_REFUSALS = (
    AuthorizationError,
    InvalidRecordError,
    InvalidTimestampError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    UnsupportedForMessageFormatError,
    UnsupportedVersionError,
)
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_METADATA_SECONDS = 1.0  # so long other topics wait for one that cannot be reached
_NEVER_MS = 10 * 365 * 86_400_000  # its own time limit does not always hold: ours does


class Link:
    """A client that delivers records in order, and says what became of each to `pending`.

    It stops at its first failure, before it sends anything that comes after what has failed: so what is sent again, in
    order and from the oldest on, keeps the order of each key. Raises KafkaError when no broker answers in time.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        pending: PendingRecords,
        *,
        linger_ms: int,
        batch_bytes: int,
        connect_timeout: float,
        request_timeout: float,
    ) -> None:
        self._settings = settings
        self._pending = pending
        self._failing = Lock()
        self._over = False
        self.delivers = False  # something was confirmed
        self.refused = False  # it failed because the broker refused a record, and the broker is well
        self._known: set[str] = set()
        self._client = connect(
            _Client,
            settings,
            connect_timeout,
            acks="all",
            enable_idempotence=True,
            allow_auto_create_topics=False,
            linger_ms=linger_ms,
            batch_size=batch_bytes,
            max_block_ms=int(_METADATA_SECONDS * 1000),
            request_timeout_ms=int(request_timeout * 1000),
            delivery_timeout_ms=_NEVER_MS,
            # Its default of 30 s would keep a producer waiting long after a broker is back.
            reconnect_backoff_max_ms=2_000,
            metrics_enabled=False,
        )

    def reaches(self, topic: Topic) -> bool:
        """Return True if the client knows where this topic is; it asks for a second at most."""
        name = self._settings.topic(topic)
        if name not in self._known:
            try:
                self._client.partitions_for(name)
            except KafkaError as error:
                self._pending.note(f"topic {name} cannot be reached on {self._settings.address}: {words(error)}")
                return False
            self._known.add(name)
        return True

    def send(self, number: int, record: Record) -> None:
        """Give a record to the client. Errors here are reported like later ones."""
        try:
            future = self._client.send(
                self._settings.topic(record.topic), key=record.key, value=record.value, headers=record.headers
            )
        except _REFUSALS as error:
            self._pending.refused(number, self._refusal(record, error))  # not sent at all: the client is as it was
        except KafkaError as error:
            self._fail(error)
        except Exception as error:  # the library's own checks of a record raise what they like
            self._pending.refused(number, RecordRefused(words(error)))
        else:
            future.add_callback(self._confirmed, number)
            future.add_errback(self._failed, number, record)

    def close(self) -> None:
        """Stop at once; the client never sends the records that it has not sent yet. Closing twice does nothing."""
        with self._failing:
            self._over = True
        self._client.close()

    def _confirmed(self, number: int, _metadata: Any) -> None:
        self.delivers = True
        self._pending.confirmed(number)

    def _failed(self, number: int, record: Record, error: BaseException) -> None:
        if isinstance(error, _REFUSALS):
            self._pending.refused(number, self._refusal(record, error))
        self._fail(error)

    def _refusal(self, record: Record, error: BaseException) -> RecordRefused:
        topic = self._settings.topic(record.topic)
        if isinstance(error, _TOO_LARGE):
            return RecordTooLarge(
                f"a value of {len(record.value)} bytes is more than the topic {topic} takes in one record: send less, "
                f"or raise its max.message.bytes ({words(error)})"
            )
        if isinstance(error, TopicAuthorizationFailedError):
            return WriteForbidden(f"the broker forbids to write to the topic {topic}: allow it there ({words(error)})")
        return RecordRefused(f"the broker refuses it on the topic {topic}: {words(error)}")

    def _fail(self, error: BaseException) -> None:
        with self._failing:
            first, self._over = not self._over, True
        if not first:
            return  # what follows is said of all that the client still had
        self._client.close()
        if isinstance(error, _REFUSALS):
            self.refused = True
        else:
            self._pending.note(words(error))
        self._pending.broke()


class _Client(KafkaProducer):  # type: ignore[misc]  # the library has no types
    """A KafkaProducer that neither waits nor raises when it is closed: also at exit, and when it is collected."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        mistrust_lost_ids(self)

    def close(self, timeout: float | None = None, null_logger: bool = False) -> None:
        """Send nothing more, and wait for nothing."""
        abandon(self)
