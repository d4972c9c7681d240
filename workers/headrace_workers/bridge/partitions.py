"""Which partitions a bridge reads, and where it keeps how far it is: two ways, of the same face.

`Shared`: the broker's consumer group spreads the partitions over all bridges, and keeps the offsets. `Sole`: one bridge
at a time, by a duty of the ledger, reads them all, and the offsets are written in the ledger with the jobs. That needs
nothing of the broker but its log, takes over in a second, and knows a log that began anew.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from kafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError

from headrace_producers.any_record import read_any_record
from headrace_producers.settings import KafkaSettings
from headrace_producers.words import words
from headrace_schemas.topics import INBOUND
from headrace_workers.away import KafkaUnavailable
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.ledger.positions import Place
from headrace_workers.ports import Clock

DUTY = "ingest"
_LEASE = 1.5  # seconds: so long nothing is read when the bridge that does it was killed. Two at once do no harm.
_LOOK_EVERY = 1.0  # seconds between looks at which logs the topics are

BATCH = 500
_CONSUMER = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",  # what a producer took back was never said
    "max_poll_records": BATCH,
    "fetch_max_bytes": 8 * 1024**2,
    "max_partition_fetch_bytes": 1024**2,
    "bootstrap_timeout_ms": 10_000,
    "reconnect_backoff_max_ms": 2_000,  # its default of 30 s would leave a broker that is back unread
    "metrics_enabled": False,
}
# A group's first join takes half the session timeout on some brokers; six seconds is also soon enough for a failover.
_MEMBER = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 1_500}
_CLOSE_MS = 5_000


class Partitions(Protocol):
    """A consumer that reads what this bridge is to read. Belongs to one thread."""

    # How long a poll may take while nothing comes, and while nothing is assigned (ms).
    poll_ms: int
    join_ms: int

    def open(self) -> Any:
        """The consumer, opened where there was none or where it was outdated; None while another bridge reads."""

    def following(self, polled: Mapping[Any, Sequence[Any]]) -> dict[Place, int]:
        """The offsets to be written with what was polled."""

    def commit(self) -> None:
        """All that was polled is written: tell the broker, where it is the one that keeps it."""

    def close(self) -> None:
        """Let go of consumer and partitions, so that others take over at once."""


def partitions_of(kafka: KafkaSettings, ledger: Ledger, bridge: str, clock: Clock) -> Partitions:
    """The way that the settings ask for."""
    return Shared(kafka) if kafka.groups else Sole(kafka, ledger, bridge, clock)


def group_of(kafka: KafkaSettings) -> str:
    """The consumer group of all bridges of one deployment: it carries the prefix of its topics, as they do."""
    return f"{kafka.prefix}ingest"


class Shared:
    """Partitions of a consumer group."""

    # What comes ends a poll at once. Each costs ten hand-overs between threads, and is no more than a look at the time.
    poll_ms = 1_000
    # A poll that ends while the group still forms lets the client forget that it has joined, and it joins again.
    # Brokers take some seconds over a first join.
    join_ms = 8_000

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._consumer: Any = None

    def open(self) -> Any:
        """A member of the group; it stays open."""
        if self._consumer is None:
            consumer = _consumer(self._kafka, group_id=group_of(self._kafka), **_MEMBER)
            try:
                topics = [self._kafka.topic(topic) for topic in INBOUND]
                # A member that joins before it has seen the topics is given no partition for minutes: see them first.
                for topic in topics:
                    consumer.partitions_for_topic(topic)
                consumer.subscribe(topics)
            except BaseException:
                _put_away(consumer)
                raise
            self._consumer = consumer
        return self._consumer

    def following(self, polled: Mapping[Any, Sequence[Any]]) -> dict[Place, int]:
        """Nothing: the group keeps the offsets."""
        return {}

    def commit(self) -> None:
        """Commit what was polled."""
        if self._consumer is not None:
            # While the group forms anew nothing can be noted: it is read again by whoever gets it, and passed over.
            with suppress(RebalanceInProgressError, CommitFailedError):
                self._consumer.commit()

    def close(self) -> None:
        """Leave the group."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)


class Sole:
    """All partitions, as long as this bridge has the duty."""

    poll_ms = 250  # the duty is to be kept meanwhile
    join_ms = 100

    def __init__(self, kafka: KafkaSettings, ledger: Ledger, bridge: str, clock: Clock) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._bridge = bridge
        self._clock = clock
        self._consumer: Any = None
        self._admin: Any = None
        self._places: dict[tuple[str, int], Place] = {}
        self._held_until = self._looked_at = float("-inf")

    def open(self) -> Any:
        """A consumer of all partitions, from where the ledger says; a new one when the topics are others."""
        if not self._on_duty():
            self._let_go()
            return None
        if self._clock.monotonic() - self._looked_at >= _LOOK_EVERY:
            places = self._look()
            self._looked_at = self._clock.monotonic()
            if places != self._places:
                self._let_go()
                self._places = places
        if self._consumer is None:
            self._consumer = self._assigned()
        return self._consumer

    def following(self, polled: Mapping[Any, Sequence[Any]]) -> dict[Place, int]:
        """What comes after the last record of each partition."""
        return {self._places[place.topic, place.partition]: batch[-1].offset + 1 for place, batch in polled.items()}

    def commit(self) -> None:
        """Nothing: the offsets were written with the jobs."""

    def close(self) -> None:
        """Lay the duty down."""
        self._let_go()
        admin, self._admin = self._admin, None
        if admin is not None:
            with suppress(KafkaError):
                admin.close()
        self._held_until = self._looked_at = float("-inf")
        self._ledger.lay_down(self._bridge, DUTY)

    def _on_duty(self) -> bool:
        now = self._clock.monotonic()
        if now < self._held_until - _LEASE * 2 / 3:
            return True
        if not self._ledger.hold(DUTY, self._bridge, int(_LEASE * 1000)):
            self._held_until = float("-inf")
            return False
        self._held_until = now + _LEASE
        return True

    def _look(self) -> dict[tuple[str, int], Place]:
        """All places there are. A topic that is made anew has another id, and so other places."""
        names = [self._kafka.topic(topic) for topic in INBOUND]
        try:
            if self._admin is None:
                self._admin = self._connect()
            topics = {topic["name"]: topic for topic in self._admin.describe_topics(names)}
        except KafkaError as error:
            admin, self._admin = self._admin, None
            if admin is not None:
                with suppress(KafkaError):
                    admin.close()
            raise KafkaUnavailable(f"no broker answers at {self._kafka.address}: {words(error)}") from error
        missing = [name for name in names if not topics.get(name, {}).get("partitions")]
        if missing:
            raise KafkaUnavailable(f"topics {', '.join(missing)} are not there: `headrace init` creates them")
        return {
            (name, found["partition_index"]): Place(name, found["partition_index"], str(topics[name]["topic_id"]))
            for name in names
            for found in topics[name]["partitions"]
        }

    def _connect(self) -> Any:
        from kafka.admin import KafkaAdminClient

        return KafkaAdminClient(
            **self._kafka.client_options(),
            bootstrap_timeout_ms=10_000,
            request_timeout_ms=5_000,
            reconnect_backoff_max_ms=500,
        )

    def _assigned(self) -> Any:
        from kafka import TopicPartition

        positions = self._ledger.positions()
        consumer = _consumer(self._kafka, group_id=None)
        try:
            consumer.assign([TopicPartition(*place) for place in self._places])
            for place in self._places.values():
                # Not known, or of another log: from its beginning.
                consumer.seek(TopicPartition(place.topic, place.partition), positions.get(place, 0))
        except BaseException:
            _put_away(consumer)
            raise
        return consumer

    def _let_go(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            _put_away(consumer)


def _consumer(kafka: KafkaSettings, **options: Any) -> Any:
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(**kafka.client_options(), **_CONSUMER, **options)
    try:
        read_any_record(consumer)
    except BaseException:
        _put_away(consumer)
        raise
    return consumer


def _put_away(consumer: Any) -> None:
    with suppress(KafkaError):
        consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
