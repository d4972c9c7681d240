"""The topics on which jobs end, as a reader sees them: alone, as a member of a group, or as a group's only reader."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from headrace_producers.admin import missing_topics
from headrace_producers.any_record import read_any_record
from headrace_producers.attentive import attend
from headrace_producers.connecting import connect
from headrace_producers.errors import TopicMissing, no_broker
from headrace_producers.kafka_internals import consumer_metadata
from headrace_producers.settings import KafkaSettings
from headrace_producers.sole_reader import SoleReader
from headrace_producers.topic_end import assign_at_end, begin_group_at_end
from headrace_producers.unread import Place
from headrace_producers.words import words
from headrace_schemas.errors import Unavailable
from headrace_schemas.topics import Topic

TOPICS = (Topic.RESULTS, Topic.DEAD)

_AT_ONCE = 100  # records of a poll: a member that does not poll again for five minutes is put out of its group
SESSION_MS = 6_000  # after which a group puts a member out that is silent; some brokers let a first one wait half of it
_CLOSE_MS = 2_000


class EndTopics:
    """A kafka-python consumer with its position fixed. Belongs to one thread.

    Raises Unavailable without a broker, and while a group that can have but one reader has one; TopicMissing without
    topics.
    """

    def __init__(self, settings: KafkaSettings, group: str | None, *, from_beginning: bool, timeout: float) -> None:
        self._settings = settings
        self._group = group
        self._sole = SoleReader(settings, group) if group is not None and not settings.groups else None
        try:
            self._client = self._connect(timeout)
            try:
                read_any_record(self._client)
                attend(self._client, settings)
                self._check_topics(timeout)
                self._next = self._position(from_beginning, timeout)
            except BaseException:
                self._client.close(autocommit=False, timeout_ms=_CLOSE_MS)
                raise
        except BaseException as error:
            self._release()
            if isinstance(error, KafkaError):
                raise self._unreadable(error) from error
            raise
        self._doubtful = False
        self._ends: dict[Place, int] = {}
        self._logs = self._log_ids()

    def poll(self, seconds: float) -> Iterable[Any]:
        """Return the next records, in order per partition; none after `seconds`. Unavailable where they cannot be
        read.
        """
        self._make_sure()
        try:
            batches: Mapping[Any, list[Any]] = self._client.poll(timeout_ms=max(1, int(seconds * 1000)))
        except BaseException as error:
            self._doubtful = True
            if isinstance(error, KafkaError):
                raise self._unreadable(error) from error
            raise
        for place, batch in batches.items():
            self._next[place] = batch[-1].offset + 1
        return [record for batch in batches.values() for record in batch]

    def note_ends(self, seconds: float) -> None:
        """Note where each partition ends now, for `unread`. For a reader without a group. Raises Unavailable."""
        self._doubtful = True
        try:
            self._ends = assign_at_end(self._client, list(self._client.assignment()), timeout=seconds)
        except KafkaError as error:
            raise self._unreadable(error) from error
        self._make_sure()

    def unread(self) -> dict[Place, int | None]:
        """Return the position in each partition that is not read up to its noted end; None while it is not known."""
        at = {place: self._client.position(TopicPartition(*place), timeout_ms=0) for place in self._ends}
        return {place: offset for place, offset in at.items() if offset is None or offset < self._ends[place]}

    def renewed(self) -> Collection[Place]:
        """Return the partitions whose topic was made anew: they are read from offset 0.

        An embedded broker that restarts has lost its log; offsets of the old one mean nothing in the new one.
        """
        ids = self._log_ids()
        # A topic that is not there for a moment has no id.
        changed = {name for name, number in ids.items() if number is not None and number != self._logs.get(name)}
        self._logs |= {name: ids[name] for name in changed}
        places = [place for place in self._client.assignment() if place.topic in changed]
        self.seek(dict.fromkeys(places, 0))
        for place in places:
            self._ends.pop(place, None)
        return places

    def seek(self, offsets: Mapping[Place, int]) -> None:
        """Read on from these offsets."""
        for place, offset in offsets.items():
            self._client.seek(TopicPartition(*place), offset)
            self._next[place] = offset

    def owned(self) -> Collection[Place]:
        """Return the partitions that are this reader's now."""
        owned: Collection[Place] = self._client.assignment()
        return owned

    def commit(self, offsets: Mapping[Place, int], seconds: float) -> None:
        """Note these positions of the group. Raises Unavailable, also when the partitions are another member's now."""
        try:
            self._client.commit(
                {TopicPartition(*place): OffsetAndMetadata(offset) for place, offset in offsets.items()},
                timeout_ms=max(1, int(seconds * 1000)),
            )
        except KafkaError as error:
            raise Unavailable(
                f"the group {self._group!r} did not note what is done with ({type(error).__name__}): "
                "it may be shown again, to this reader or to another"
            ) from error

    def close(self) -> None:
        """Disconnect, leave the group."""
        try:
            with suppress(KafkaError):
                self._client.close(autocommit=False, timeout_ms=_CLOSE_MS)
        finally:
            self._release()

    def _release(self) -> None:
        if self._sole is not None:
            sole, self._sole = self._sole, None
            sole.release()

    def _connect(self, timeout: float) -> Any:
        try:
            return connect(
                KafkaConsumer,
                self._settings,
                timeout,
                group_id=self._group,
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                isolation_level="read_committed",  # what a producer took back was never said
                # Positions are set below. One that the log does not have any more goes on with what there is.
                auto_offset_reset="earliest",
                max_poll_records=_AT_ONCE,
                fetch_max_bytes=8 * 1024**2,
                reconnect_backoff_max_ms=2_000,
                session_timeout_ms=SESSION_MS,
                heartbeat_interval_ms=2_000,
                metrics_enabled=False,
            )
        except KafkaError as error:
            raise no_broker(self._settings.address, error) from error

    def _check_topics(self, timeout: float) -> None:
        # Some brokers create a topic that is merely asked about, and a reader would wait on it forever.
        if missing := missing_topics(self._settings, TOPICS, timeout=timeout):
            names = ", ".join(self._settings.topic(topic) for topic in missing)
            raise TopicMissing(f"topics {names} are not there on {self._settings.address}: `headrace up` creates them")

    def _position(self, from_beginning: bool, timeout: float) -> dict[Place, int]:
        names = [self._settings.topic(topic) for topic in TOPICS]
        places = [
            TopicPartition(name, number) for name in names for number in self._client.partitions_for_topic(name) or ()
        ]
        if self._group is not None:
            if not from_beginning:
                begin_group_at_end(self._client, places, timeout=timeout)
            if self._sole is None:
                self._client.subscribe(names)
            else:
                self._client.assign(places)
            return {}
        # Sought here: the library's seek_to_… would look only at the first poll, after the caller has published.
        if not from_beginning:
            return dict(assign_at_end(self._client, places, timeout=timeout))
        self._client.assign(places)
        begins: dict[Place, int] = self._client.beginning_offsets(places)
        for place, offset in begins.items():
            self._client.seek(place, offset)
        return begins

    def _make_sure(self) -> None:
        """Seek back to the end of the last complete poll: a poll that was interrupted may have skipped records."""
        if not self._doubtful:
            return
        for place in self._client.assignment():
            if place not in self._next and (committed := self._client.committed(place)) is not None:
                self._next[place] = committed
            if place in self._next:
                self._client.seek(place, self._next[place])
        self._doubtful = False

    def _log_ids(self) -> dict[str, Any]:
        """Return the id of each topic's log, as the last metadata said: the library keeps it, and shows it to
        nobody.
        """
        cluster = consumer_metadata(self._client)
        return {name: cluster.topic_id(name) for name in map(self._settings.topic, TOPICS)}

    def _unreadable(self, error: BaseException) -> Unavailable:
        return Unavailable(f"the topics cannot be read at {self._settings.address}: {words(error)}")
