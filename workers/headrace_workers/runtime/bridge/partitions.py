"""Partitions that a bridge reads: its share of all, by a lease of the ledger, from the ledger's positions.

Offsets are written with the jobs that were read. So a bridge takes over from another in two seconds, a ledger that was
restored from a backup goes on from where it was then, and a log that began anew is read from its beginning. This needs
nothing of the broker but its log. If its consumer groups are reliable, bridges commit the offsets there too, so that
the broker's tools show their lag. They commit after the ledger: if more is committed than the ledger knows, the ledger
was restored, and that is reported.

The last record that was read is read once more whenever the log may be another: by a new consumer, under a new leader,
after a silence. Where it is not the same, the log is read again from the newest position that it matches.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka.errors import KafkaError, RetriableError

from headrace_producers.any_record import read_any_record
from headrace_producers.attentive import attend
from headrace_producers.settings import KafkaSettings
from headrace_producers.words import words
from headrace_schemas.topics import INBOUND
from headrace_workers.core.clock import Clock
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.positions import (
    NOT_READ_BEFORE,
    Advance,
    LogPartition,
    Position,
    PositionsMoved,
    Reread,
)
from headrace_workers.core.log import Action, log
from headrace_workers.core.outage import KafkaUnavailable
from headrace_workers.runtime.bridge.cluster import fingerprint_of, newest_match, with_fingerprint

DUTY = "ingest"
# Seconds: so long what a bridge read is left when it was killed. One whose rounds take long asks for more.
_LEASE = 2.0
_LONGEST_LEASE = 10.0
_ROUNDS = 3  # a lease, of the longest round of late
_FORGETS = 0.9  # of the longest round, with each lease
_GIVES_WAY = 5.0  # seconds that a bridge leaves to the others after it found that it cannot read
# Seconds between looks at which logs the topics are: one in memory may begin anew, else partitions may join.
_LOOK_EVERY, _LOOK_EVERY_DURABLE = 1.0, 10.0

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
_CLOSE_MS = 5_000
_LAST_COMMIT_MS = 1_000
NOTE_EVERY = 30.0  # seconds between notes of the time until which all is read
NOTE_LAG_EVERY = 5.0  # and of the offsets at which the logs end
_ENDS_MS = 1_000  # that a broker has to tell where its logs end


class Partitions:
    """A consumer of what this bridge is to read. Belongs to one thread."""

    # Longest poll without records (ms): the lease must be kept meanwhile. A record ends the poll at once.
    poll_ms = 500

    def __init__(self, kafka: KafkaSettings, ledger: Ledger, bridge: str, clock: Clock) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._bridge = bridge
        self._clock = clock
        self._consumer: Any = None
        self._admin: Any = None
        self._there: frozenset[LogPartition] = frozenset()
        self._mine: frozenset[LogPartition] = frozenset()
        self._places: dict[tuple[str, int], LogPartition] = {}  # those, by what Kafka calls them
        self._at: dict[LogPartition, Position] = {}  # what this bridge wrote or sought last
        self._compared = not kafka.groups  # the ledger's positions with those that were committed before it began
        self._doubted: set[LogPartition] = set()  # the record that comes first must be the one that was read last
        self._epochs: dict[LogPartition, int] = {}  # leader epochs under which that was so
        self._ask_at = self._looked_at = self._gives_way_until = float("-inf")
        self._ends: dict[LogPartition, int] = {}  # of the logs, a while ago: the ledger is told when they are reached
        self._ended_at = 0  # when they ended there, by the ledger's clock (ms)
        self._ends_asked_at = self._lag_noted_at = clock.monotonic()
        self._noted: dict[LogPartition, int] = {}  # where the logs end, as the ledger was told last
        self._opened_at: float | None = None
        self._round = 0.0  # seconds, of the longest of late

    def open(self) -> Any:
        """Return the consumer, a new one when its partitions are others; None while there is nothing to read for it."""
        now = self._clock.monotonic()
        if self._opened_at is not None:
            self._round = max(self._round, now - self._opened_at)
        self._opened_at = now
        asks = now >= self._ask_at
        if asks:
            self._ask(now)
        if self._consumer is None and self._mine:
            self._consumer = self._assigned()
        if asks and self._consumer is not None and not self._compared:
            self._compare_committed()
        if self._consumer is not None:
            self._note(now)
            self._note_lag(now)
        return self._consumer

    def unread(self, polled: Mapping[Any, Sequence[Any]], silent: bool) -> dict[Any, Sequence[Any]]:
        """Return the records of a poll that were not read before. `silent`: Kafka answered nothing for a while before.

        Nothing comes of a partition whose log may be another now: its last record is read once more first. Where that
        is another, the ledger's position goes back: `PositionsMoved` where it is not ours to write.
        """
        before = set(self._doubted)
        if silent:
            self._doubt(self._mine - before)
        new = {}
        for partition, batch in polled.items():
            place = self._place(partition)
            since = place in self._doubted and place not in before  # its last record comes with a later poll
            if not since and (rest := self._checked(place, batch)):
                new[partition] = rest
        return new

    def following(self, polled: Mapping[Any, Sequence[Any]]) -> dict[LogPartition, Advance]:
        """Return the positions after the last record of each partition, to be written with the polled records."""
        steps = {}
        for partition, batch in polled.items():
            at = self._at[place := self._place(partition)]
            to = Position(batch[-1].offset + 1, with_fingerprint(at.fingerprints, fingerprint_of(batch[-1])), at.reread)
            steps[place] = Advance(at.next, to)
        return steps

    def written(self, following: Mapping[LogPartition, Advance]) -> None:
        """Note that these positions are in the ledger now."""
        self._at |= {place: step.to for place, step in following.items()}

    def read_before(self, record: Any) -> bool:
        """Return True if a record is read a second time, since its log was restored."""
        reread = self._at[self._place(record)].reread
        return reread is not None and record.offset < reread.below and (record.timestamp or 0) <= reread.at

    def seek(self) -> None:
        """Go on from where the ledger says now."""
        if self._consumer is None:
            return
        reason = "the ledger's positions differ from this bridge's: it goes on from the ledger's"
        log("ingest", logging.WARNING, Action.POSITIONS_MOVED, reason)
        self._seek(self._consumer)

    def doubt(self) -> None:
        """Read the last record of each partition once more: the log may have become another unseen."""
        self._doubt(self._mine)

    def commit(self) -> None:
        """Tell the broker how far the ledger is, for its tools. Nothing depends on whether it hears."""
        if self._consumer is not None and self._kafka.groups and self._compared:
            with suppress(KafkaError):
                self._consumer.commit_async(self._offsets())

    def give_way(self) -> None:
        """Leave reading to other bridges for a while, since it is not possible from here."""
        self._leave()
        self._ask_at = self._gives_way_until = self._clock.monotonic() + _GIVES_WAY

    @property
    def gives_way(self) -> bool:
        """Return True if it leaves the reading to others for a while."""
        return self._clock.monotonic() < self._gives_way_until

    def close(self) -> None:
        """Let go of all, so that others take over at once."""
        if self._consumer is not None and self._kafka.groups and self._compared:
            with suppress(KafkaError):
                self._consumer.commit(self._offsets(), timeout_ms=_LAST_COMMIT_MS)
        self._leave()

    def _leave(self) -> None:
        self._release()
        admin, self._admin = self._admin, None
        if admin is not None:
            with suppress(KafkaError):
                admin.close()
        self._mine = frozenset()
        self._ask_at = self._looked_at = float("-inf")
        self._opened_at, self._round = None, 0.0
        self._ledger.leave(self._bridge)

    def _ask(self, now: float) -> None:
        if now - self._looked_at >= (_LOOK_EVERY_DURABLE if self._kafka.groups else _LOOK_EVERY):
            try:
                self._there = self._look()
            except KafkaUnavailable:
                self._leave()  # others may see it
                raise
            self._looked_at = now
        lease = min(max(_LEASE, _ROUNDS * self._round), _LONGEST_LEASE)
        self._round *= _FORGETS
        mine = self._ledger.share(self._bridge, self._there, int(lease * 1000))
        self._ask_at = now + _LEASE / 3
        if mine != self._mine:
            self._release()
            self._mine = mine
            self._places = {(place.topic, place.partition): place for place in mine}
        elif self._consumer is not None:
            stored = self._ledger.positions()
            if any(stored.get(place, 0) != self._at[place].next for place in mine):
                self.seek()

    def _note(self, now: float) -> None:
        """Note in the ledger until when its partitions are read. All that was polled so far is written."""
        with suppress(KafkaError):  # then it is noted later
            if not self._ends and now - self._ends_asked_at >= NOTE_EVERY:
                self._ends_asked_at, self._ended_at = now, self._ledger.now()
                ends = self._consumer.end_offsets([_partition(place) for place in sorted(self._mine)], _ENDS_MS)
                self._ends = {self._place(partition): end for partition, end in ends.items()}
            read = [
                place
                for place, end in self._ends.items()
                if (at := self._consumer.position(_partition(place), timeout_ms=0)) is not None and at >= end
            ]
            if read:
                self._ledger.note_read(read, self._ended_at)
                self._ends = {place: end for place, end in self._ends.items() if place not in read}

    def _note_lag(self, now: float) -> None:
        """Note in the ledger where the logs end, now and then. All that was polled so far is written."""
        if now - self._lag_noted_at < NOTE_LAG_EVERY:
            return
        self._lag_noted_at = now
        with suppress(KafkaError):  # then it is noted later
            paused = self._consumer.paused()  # nothing is fetched of them, and fetches tell of the others
            asked = self._consumer.end_offsets(sorted(paused), _ENDS_MS) if paused else {}
            ends = {}
            for place in self._mine:
                partition = _partition(place)
                end = asked.get(partition, self._consumer.highwater(partition))
                read = self._consumer.position(partition, timeout_ms=0)
                if end is not None and read is not None:
                    # The consumer is ahead after the mark of a transaction, and behind while it reads a record again.
                    following = self._at[place].next
                    ends[place] = following + max(0, end - max(read, following))
            if new := dict(ends.items() - self._noted.items()):
                self._ledger.note_ends(new)
                self._noted |= new

    def _look(self) -> frozenset[LogPartition]:
        """Return all places there are. A topic that is made anew has another id, and so other places."""
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
        return frozenset(
            LogPartition(name, found["partition_index"], str(topics[name]["topic_id"]))
            for name in names
            for found in topics[name]["partitions"]
        )

    def _connect(self) -> Any:
        from kafka.admin import KafkaAdminClient

        return KafkaAdminClient(
            **self._kafka.client_options(),
            bootstrap_timeout_ms=10_000,
            request_timeout_ms=5_000,
            reconnect_backoff_max_ms=500,
        )

    def _assigned(self) -> Any:
        consumer = _consumer(self._kafka, group_id=self._kafka.ingest_group if self._kafka.groups else None)
        try:
            consumer.assign([_partition(place) for place in sorted(self._mine)])
            self._seek(consumer)
        except BaseException:
            _close(consumer)
            raise
        return consumer

    def _seek(self, consumer: Any) -> None:
        stored, before = self._ledger.full_positions(), self._at
        # Not known, or of another log: from its beginning.
        self._at = {place: stored.get(place, Position()) for place in self._mine}
        self._report_lost({place: at.next for place, at in before.items()})
        self._report_new_logs(stored)
        self._doubted, self._epochs = set(), {}
        for place in sorted(self._mine):
            consumer.seek(_partition(place), self._at[place].next)
        self._doubt(self._mine, consumer)

    def _report_lost(self, read: Mapping[LogPartition, int]) -> None:
        """Report the positions of which the ledger knows less than was read before: it was restored."""
        lost = {
            place: read[place]
            for place, at in self._at.items()
            if at.next < read.get(place, 0) and at.reread is None  # else its log was restored, which was reported
        }
        if lost:
            self._ledger.report_lost(lost)
        for place, offset in sorted(lost.items()):
            log("ingest", logging.ERROR, Action.POSITIONS_MOVED,
                f"{place.topic}-{place.partition} was read up to offset {offset}, and the ledger knows it up to "
                f"{self._at[place].next}: it was restored, or lost its last transactions; it is read again from "
                "there")  # fmt: skip

    def _report_new_logs(self, stored: Mapping[LogPartition, Position]) -> None:
        """Report the topics that were made anew since they were read, such as on an emptied volume: records that
        nobody had read are lost. A broker that keeps its log in memory does so at each start.
        """
        places = {(place.topic, place.partition): place for place in self._mine - stored.keys()}
        for old, at in stored.items():
            place = places.get((old.topic, old.partition))
            if place is None or not self._kafka.groups or not at.fingerprints:
                continue  # without fingerprints: the ledger was bound to another cluster on purpose
            with suppress(PositionsMoved):  # another bridge has reported it
                begin = Position(reread=Reread(at.next, NOT_READ_BEFORE))
                self._ledger.go_back(place, 0, begin)
                self._at[place] = begin
                log("ingest", logging.ERROR, Action.LOG_DIFFERS,
                    f"{place.topic}-{place.partition} is not the log that was read: it was read up to offset "
                    f"{at.next}, and was made anew since; it is read from its beginning")  # fmt: skip

    def _compare_committed(self) -> None:
        """Report what bridges had committed and the ledger does not know, then commit what it knows: commands see in
        the group that bridges read, before there is a record.
        """
        group = self._kafka.ingest_group
        try:
            found = self._admin.list_group_offsets(group).get(group, {})
        except RetriableError:  # a new broker makes its topic of offsets first
            return
        except KafkaError:  # it may be forbidden
            found = {}
        read = {partition: committed.offset for partition, committed in found.items()}
        self._report_lost({place: read.get(_partition(place), 0) for place in self._mine})
        self._compared = True
        self.commit()

    def _offsets(self) -> dict[Any, Any]:
        """Return the ledger's positions for the broker: the consumer's are ahead where a transaction's end follows."""
        from kafka.structs import OffsetAndMetadata

        return {_partition(place): OffsetAndMetadata(at.next, "", -1) for place, at in self._at.items()}

    def _doubt(self, places: Collection[LogPartition], consumer: Any = None) -> None:
        for place in sorted(places):
            if fingerprints := self._at[place].fingerprints:
                (consumer or self._consumer).seek(_partition(place), fingerprints[-1].offset)
                self._doubted.add(place)

    def _place(self, partition: Any) -> LogPartition:
        return self._places[partition.topic, partition.partition]

    def _checked(self, place: LogPartition, batch: Sequence[Any]) -> Sequence[Any]:
        """Return the new ones of these records; none if the log may be another."""
        at, epoch = self._at[place], batch[-1].leader_epoch
        if place in self._doubted or batch[0].offset < at.next:
            if not at.fingerprints or fingerprint_of(batch[0]) != at.fingerprints[-1]:
                self._compare(place, at)
                return ()
            self._doubted.discard(place)
            self._epochs[place] = epoch
            return batch[1:]
        if at.fingerprints and epoch not in (at.fingerprints[-1].epoch, self._epochs.get(place)):
            self._epochs[place] = epoch
            self._doubt([place])
            return ()
        return batch

    def _compare(self, place: LogPartition, at: Position) -> None:
        """Find how far the log is the one that was read, since its last record is missing or another."""
        if place not in self._look():  # it is another topic, by the same name
            self._leave()
            raise PositionsMoved(f"{place.topic} was made anew")
        partition = _partition(place)
        consumer = _consumer(self._kafka)
        try:
            position = newest_match(consumer, partition, at)
        except KafkaError as error:
            raise KafkaUnavailable(f"{place.topic}-{place.partition} cannot be read: {words(error)}") from error
        finally:
            _close(consumer)
        self._doubted.discard(place)
        if position is not None:
            self._ledger.go_back(place, at.next, position)
            log("ingest", logging.ERROR, Action.LOG_DIFFERS,
                f"{place.topic}-{place.partition} is not the log that was read: read up to offset {at.next}, it "
                f"matches up to {position.next}, and is read again from there")  # fmt: skip
            at = self._at[place] = position
        self._epochs.pop(place, None)
        self._consumer.seek(partition, at.next)

    def _release(self) -> None:
        consumer, self._consumer, self._ends, self._noted = self._consumer, None, {}, {}
        if consumer is not None:
            _close(consumer)


def _consumer(kafka: KafkaSettings, **options: Any) -> Any:
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(**kafka.client_options(), **_CONSUMER, **options)
    try:
        read_any_record(consumer)
        attend(consumer, kafka)
    except BaseException:
        _close(consumer)
        raise
    return consumer


def _partition(place: LogPartition) -> Any:
    from kafka import TopicPartition

    return TopicPartition(place.topic, place.partition)


def _close(consumer: Any) -> None:
    with suppress(KafkaError):
        consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
