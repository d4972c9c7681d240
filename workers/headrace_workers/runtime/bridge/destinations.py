"""Topics and partitions that take nothing at the moment, by what a Kafka client has heard of them."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError
from kafka.partitioner.default import DefaultPartitioner, murmur2
from kafka.structs import TopicPartition

from headrace_producers.kafka_internals import ask_for_topic, metadata_is_newer, producer_metadata
from headrace_producers.settings import KafkaSettings
from headrace_schemas import Topic
from headrace_workers.core.ledger.outbox import Outgoing

_SILENT_SECONDS = 10.0  # for a broker that says nothing of a topic
_MISSING_SECONDS = 2.0  # for a topic that a broker does not know: it may have been made just now
_AGAIN_SECONDS = 0.3  # for one that was not there before
_LEADERLESS_SECONDS = 5.0  # for a partition to get a new leader


@dataclass(frozen=True, slots=True)
class Destination:
    """A topic, without the deployment's prefix, or one partition of it."""

    topic: Topic
    partition: int | None = None

    def __str__(self) -> str:
        """Return the place in words for people."""
        return f"topic {self.topic}" + (f", partition {self.partition}" if self.partition is not None else "")


class Shut(Exception):
    """A place takes nothing now."""

    def __init__(self, place: Destination, reason: str) -> None:
        super().__init__(reason)
        self.place = place
        self.reason = reason


class Partitions(DefaultPartitioner):  # type: ignore[misc]  # the library has no types
    """Kafka's partitioner: the same key, the same partition. A job's key is hashed once, in Python, and not for each
    event.
    """

    def __init__(self) -> None:
        self._hash = lru_cache(maxsize=8_192)(murmur2)

    def partition(
        self, topic: str, key: Any, serialized_key: bytes | None, value: Any, serialized_value: Any, cluster: Any
    ) -> int:
        """Return the partition of a record."""
        if serialized_key is None:
            return int(super().partition(topic, key, serialized_key, value, serialized_value, cluster))
        partitions = sorted(cluster.partitions_for_topic(topic))
        return int(partitions[(self._hash(serialized_key) & 0x7FFFFFFF) % len(partitions)])


class Destinations:
    """Destinations of records, and whether they take records now. Belongs to one thread."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self.partitions = Partitions()
        self._doubtful: set[Destination] = set()  # that were shut when last seen: one that still is is not waited for

    @property
    def doubtful_topics(self) -> frozenset[Topic]:
        """Return the topics that were shut when last seen, as a whole or in part."""
        return frozenset(place.topic for place in self._doubtful)

    def look_for(self, producer: Any, record: Outgoing, shut: Mapping[Destination, str]) -> bool:
        """Raise Shut when a record's place is one of `shut`, or the broker says that it is; KafkaTimeoutError when it
        says nothing. Whether no place of its topic is in doubt.
        """
        metadata, topic = producer_metadata(producer), Destination(record.topic)
        name = self._kafka.topic(record.topic)
        if not shut and not self._doubtful and metadata.partitions_for_topic(name) is not None:
            return True  # mostly
        self._remembered(producer, record, shut)
        begun = time.monotonic()
        patience = _AGAIN_SECONDS if topic in self._doubtful else _MISSING_SECONDS
        while metadata.partitions_for_topic(name) is None:
            try:
                ask_for_topic(producer, name, patience)
            except TopicAuthorizationFailedError:
                raise self._forbidden(topic) from None
            except KafkaTimeoutError:
                if metadata_is_newer(metadata, begun):
                    raise self._missing(topic) from None
                if time.monotonic() - begun > _SILENT_SECONDS:
                    raise
        partition = self._partition(producer, record)
        if partition is not None and partition in self._doubtful:
            if not self._led(producer, partition):
                raise self._leaderless(partition)
            self._doubtful.discard(partition)
        return not shut and not self._doubtful

    def shut(self, producer: Any, record: Outgoing, shut: Mapping[Destination, str], waited: float) -> Shut | None:
        """Return whether the place of a record, which was not confirmed for so many seconds, is what keeps it."""
        try:
            self._remembered(producer, record, shut)
        except Shut as known:
            return known
        if producer_metadata(producer).partitions_for_topic(self._kafka.topic(record.topic)) is None:
            return self._missing(Destination(record.topic)) if waited >= _MISSING_SECONDS else None
        partition = self._partition(producer, record)
        if partition is None or self._led(producer, partition) or waited < _LEADERLESS_SECONDS:
            return None
        return self._leaderless(partition)

    def forbidden(self, record: Outgoing, error: TopicAuthorizationFailedError) -> Shut | None:
        """Return whether it is a record's own topic that is forbidden: a client fails all with the error of one."""
        named, name = error.args[0] if error.args else (), self._kafka.topic(record.topic)
        ours = named == name if isinstance(named, str) else name in named
        return self._forbidden(Destination(record.topic)) if ours else None

    def taken(self, topics: Collection[Topic], shut: Mapping[Destination, str]) -> None:
        """Note that these places took records: they are no longer in doubt, unless they are shut."""
        self._doubtful -= {Destination(topic) for topic in topics} - shut.keys()

    def _remembered(self, producer: Any, record: Outgoing, shut: Mapping[Destination, str]) -> None:
        for place in (Destination(record.topic), self._partition(producer, record)) if shut else ():
            if place is not None and place in shut:
                raise Shut(place, shut[place])

    def _partition(self, producer: Any, record: Outgoing) -> Destination | None:
        """Return the one partition that a record may go to; None where it may be any, or the topic is not known."""
        name = self._kafka.topic(record.topic)
        metadata = producer_metadata(producer)
        if not record.key or not metadata.partitions_for_topic(name):
            return None
        key = record.key.encode()
        return Destination(record.topic, self.partitions.partition(name, None, key, None, None, metadata))

    def _led(self, producer: Any, place: Destination) -> bool:
        partition = TopicPartition(self._kafka.topic(place.topic), place.partition)
        return producer_metadata(producer).leader_for_partition(partition) not in (None, -1)

    def _missing(self, topic: Destination) -> Shut:
        return self._doubt(topic, f"the topic {self._kafka.topic(topic.topic)} is not there: `headrace init` makes it")

    def _forbidden(self, topic: Destination) -> Shut:
        name = self._kafka.topic(topic.topic)
        return self._doubt(topic, f"the broker forbids the bridge to write to the topic {name}: allow it there")

    def _leaderless(self, place: Destination) -> Shut:
        name = self._kafka.topic(place.topic)
        return self._doubt(
            place, f"partition {place.partition} of the topic {name} has no leader: its brokers are away"
        )

    def _doubt(self, place: Destination, reason: str) -> Shut:
        self._doubtful.add(place)
        return Shut(place, reason)
