"""How a bridge opens, keeps and lets go of what it reads, with a client and a clock of the test's own.

With brokers: test_ingest.py.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from kafka import TopicPartition
from kafka.errors import CoordinatorNotAvailableError, KafkaConnectionError, KafkaError
from sqlalchemy import select, update

from headrace_producers.settings import KafkaSettings
from headrace_schemas.topics import INBOUND
from headrace_workers.core.ledger import positions
from headrace_workers.core.ledger.ledger import Fact
from headrace_workers.core.ledger.positions import Advance, LogPartition, Position, PositionsMoved
from headrace_workers.core.outage import KafkaUnavailable
from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.tables import POSITIONS
from headrace_workers.runtime.bridge import partitions
from headrace_workers.runtime.bridge.partitions import Partitions

KAFKA = KafkaSettings.at("127.0.0.1:9", "mine.")
IN_MEMORY = replace(KAFKA, groups=False)
LEASE = 60_000
NAMES = [f"mine.{topic}" for topic in INBOUND]


class Broker:
    """What consumers and admins are told, and what they did. Each topic has two partitions."""

    def __init__(self):
        self.logs, self.numbers = dict.fromkeys(NAMES, "log1"), (0, 1)
        self.consumers, self.admins, self.fails = [], [], {}
        self.committed = {}
        self.reached = {0: 0, 1: 0}  # by the number of the partition
        self.highwater, self.paused = {}, set()

    def topics(self):
        """As `describe_topics` tells of them."""
        return [
            {"name": name, "topic_id": log, "partitions": [{"partition_index": number} for number in self.numbers]}
            for name, log in self.logs.items()
        ]

    def call(self, name):
        if error := self.fails.get(name):
            raise error


class Consumer:
    def __init__(self, broker, options):
        self.broker, self.options = broker, options
        self.assigned, self.sought, self.told, self.closed = [], {}, [], []

    def assign(self, partitions):
        self.broker.call("assign")
        self.assigned = [tuple(partition) for partition in partitions]

    def seek(self, partition, offset):
        self.sought[tuple(partition)] = offset

    def commit_async(self, offsets):
        self.told.append({at.offset for at in offsets.values()})
        self.broker.call("commit")

    def commit(self, _offsets, timeout_ms):
        self.told.append(timeout_ms)
        self.broker.call("commit")

    def end_offsets(self, partitions, timeout_ms):
        self.broker.call("ends")
        return dict.fromkeys(partitions, 5)

    def position(self, partition, timeout_ms):
        return self.broker.reached[partition.partition]

    def highwater(self, partition):
        return self.broker.highwater.get(partition.partition)

    def paused(self):
        return self.broker.paused

    def close(self, **options):
        self.closed.append(options)
        self.broker.call("close")


class Admin:
    def __init__(self, broker, options):
        self.broker, self.options, self.asked, self.closed = broker, options, [], 0

    def describe_topics(self, names):
        self.asked.append(list(names))
        self.broker.call("describe")
        return self.broker.topics()

    def list_group_offsets(self, group):
        self.broker.call("groups")
        offsets = {TopicPartition(*place): SimpleNamespace(offset=at) for place, at in self.broker.committed.items()}
        return {group: offsets}

    def close(self):
        self.closed += 1
        self.broker.call("close")


@pytest.fixture
def broker(monkeypatch):
    """The broker that every client of the library reaches."""
    broker = Broker()

    def consumer(**options):
        broker.consumers.append(Consumer(broker, options))
        return broker.consumers[-1]

    def admin(**options):
        broker.admins.append(Admin(broker, options))
        return broker.admins[-1]

    monkeypatch.setattr("kafka.KafkaConsumer", consumer)
    monkeypatch.setattr("kafka.admin.KafkaAdminClient", admin)
    monkeypatch.setattr(partitions, "read_any_record", lambda _consumer: broker.call("read_any_record"))
    monkeypatch.setattr(partitions, "attend", lambda _consumer, _kafka: None)
    return broker


class Time:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def asked(ledger, monkeypatch):
    """Who asked for a share, and for how long."""
    share, seen = ledger.share, []

    def count(reader, places, lease_ms):
        seen.append((reader, lease_ms))
        return share(reader, places, lease_ms)

    monkeypatch.setattr(ledger, "share", count)
    return seen


@pytest.fixture
def bridge(request, ledger, time):
    return Partitions(getattr(request, "param", IN_MEMORY), ledger, "a", time)


@pytest.fixture
def places():
    return [LogPartition(name, number, "log1") for name in NAMES for number in (0, 1)]


def polled(**records):
    """What a poll brought: so many records of a partition of the first topic, from an offset on."""
    return {
        TopicPartition(NAMES[0], int(name[1:])): [raw(offset) for offset in offsets]
        for name, offsets in records.items()
    }


def raw(offset, value=b"v", epoch=0):
    return SimpleNamespace(
        topic=NAMES[0], partition=0, offset=offset, leader_epoch=epoch, timestamp=1, key=b"k", value=value, headers=[]
    )


def read(ledger, offsets):
    ledger.ingest([], following={place: Advance(0, Position(offset)) for place, offset in offsets.items()})


def test_it_reads_its_partitions_from_where_the_ledger_says(ledger, broker, bridge):
    read(ledger, {LogPartition(NAMES[0], 0, "log1"): 5, LogPartition(NAMES[0], 1, "log0"): 7})
    consumer = bridge.open()
    assert bridge.open() is consumer
    assert sorted(consumer.assigned) == sorted((name, number) for name in NAMES for number in (0, 1))
    assert consumer.sought == dict.fromkeys(consumer.assigned, 0) | {(NAMES[0], 0): 5}
    following = bridge.following(polled(p0=[5, 6, 9], p1=[0]))
    assert {place: (step.expected, step.to.next) for place, step in following.items()} == {
        LogPartition(NAMES[0], 0, "log1"): (5, 10), LogPartition(NAMES[0], 1, "log1"): (0, 1)
    }  # fmt: skip
    options = consumer.options
    assert (options["group_id"], options["enable_auto_commit"], options["auto_offset_reset"]) == (
        None, False, "earliest",
    )  # fmt: skip
    assert (options["isolation_level"], options["max_poll_records"]) == ("read_committed", partitions.BATCH)


def test_a_share_is_asked_for_when_a_third_of_its_lease_is_gone(broker, bridge, time, asked):
    for seconds, times in ((0, 1), (0.4, 1), (0.3, 2), (0.4, 2), (0.3, 3)):
        time.now += seconds
        bridge.open()
        assert len(asked) == times, seconds
    assert set(asked) == {("a", 2_000)}


def test_who_takes_long_asks_for_more(broker, bridge, time, asked):
    """So that no other takes its partitions over while it writes; with bounds, and only as long as it is slow."""
    for seconds, lease in ((0, 2_000), (1.5, 4_500), (0.7, 4_050), (60, 10_000)):
        time.now += seconds
        bridge.open()
        assert asked[-1] == ("a", lease)
    for _ in range(60):
        time.now += 0.5
        bridge.open()
        time.now += 0.25
        bridge.open()
    assert asked[-1] == ("a", 2_000)


def test_who_has_no_share_reads_nothing(ledger, broker, bridge, time, asked, places):
    ledger.share("b", places, LEASE)
    asked.clear()
    assert [bridge.open(), bridge.open()] == [None, None]
    assert (len(asked), broker.consumers) == (1, [])
    ledger.leave("b")
    time.now += 0.7
    assert bridge.open() is broker.consumers[0]
    assert len(broker.consumers[0].assigned) == 2 * len(NAMES)


def test_who_gets_another_share_begins_anew(ledger, broker, bridge, time, places):
    first = bridge.open()
    ledger.share("b", places, LEASE)
    read(ledger, {LogPartition(NAMES[1], 1, "log1"): 3, LogPartition(NAMES[1], 0, "log1"): 3})
    time.now += 1
    second = bridge.open()
    assert second is not first
    assert first.closed == [{"autocommit": False, "timeout_ms": 5_000}]
    assert (len(second.assigned), sum(second.sought.values())) == (len(NAMES), 3)
    time.now += 1
    assert bridge.open() is second


@pytest.mark.parametrize(("groups", "seconds"), [(False, 1.0), (True, 10.0)])
def test_a_topic_that_was_made_anew_is_noticed(ledger, broker, time, groups, seconds):
    bridge = Partitions(replace(KAFKA, groups=groups), ledger, "a", time)
    first = bridge.open()
    broker.logs[NAMES[1]] = "log2"
    time.now += seconds - 0.1
    assert bridge.open() is first
    assert len(broker.admins[0].asked) == 1
    time.now += 0.7
    second = bridge.open()
    assert second is not first
    assert (len(first.closed), second.closed) == (1, [])
    assert list(bridge.following(polled(p0=[1]))) == [LogPartition(NAMES[0], 0, "log1")]
    time.now += seconds
    assert bridge.open() is second
    assert broker.admins[0].asked == [NAMES] * 3
    assert len(broker.admins) == 1


def test_topics_that_are_not_there_are_named(broker, bridge):
    del broker.logs[NAMES[0]]
    with pytest.raises(KafkaUnavailable, match=f"topics {NAMES[0]} are not there: `headrace init` creates them"):
        bridge.open()
    broker.logs[NAMES[0]] = "log1"
    broker.numbers = ()
    with pytest.raises(KafkaUnavailable, match="are not there"):
        bridge.open()
    broker.numbers = (0, 1)
    assert bridge.open() is not None  # asked again at once


def test_a_broker_that_is_away_is_told_and_asked_by_a_new_client(broker, bridge):
    broker.fails = {"describe": KafkaConnectionError("refused"), "close": KafkaError("odd")}
    for _ in range(2):
        with pytest.raises(KafkaUnavailable, match=r"no broker answers at 127\.0\.0\.1:9: .*refused"):
            bridge.open()
    assert [admin.closed for admin in broker.admins] == [1, 1]
    broker.fails = {}
    assert bridge.open() is not None
    assert len(broker.admins) == 3


def test_who_no_longer_sees_the_broker_leaves_all_to_others(ledger, broker, bridge, time, places):
    bridge.open()
    broker.fails = {"describe": KafkaConnectionError("refused")}
    time.now += 1
    with pytest.raises(KafkaUnavailable):
        bridge.open()
    assert len(broker.consumers[0].closed) == 1
    assert ledger.share("b", places, LEASE) == frozenset(places)
    broker.fails = {}
    assert bridge.open() is None
    ledger.leave("b")
    time.now += 1
    assert len(bridge.open().assigned) == 2 * len(NAMES)


@pytest.mark.parametrize("step", ["assign", "read_any_record"])
def test_a_consumer_that_could_not_be_opened_is_closed(broker, bridge, step):
    broker.fails = {step: RuntimeError("odd"), "close": KafkaError("odd")}
    with pytest.raises(RuntimeError, match="odd"):
        bridge.open()
    assert [len(consumer.closed) for consumer in broker.consumers] == [1]
    broker.fails = {}
    assert bridge.open() is broker.consumers[1]


def test_who_closes_leaves_all_to_others(ledger, broker, bridge, places):
    ledger.hold("relay", "a", LEASE)
    bridge.open()
    broker.fails = {"close": KafkaError("odd")}
    bridge.close()
    bridge.close()
    broker.fails = {}
    assert (len(broker.consumers[0].closed), broker.admins[0].closed) == (1, 1)
    assert not ledger.hold("relay", "b", LEASE)
    assert ledger.share("b", places, LEASE) == frozenset(places)
    assert bridge.open() is None
    bridge.close()
    ledger.leave("b")
    assert bridge.open() is broker.consumers[1]


def test_who_gives_way_does_not_ask_for_a_while(ledger, broker, bridge, time, asked, places):
    """So that another, which may reach what this one does not, takes all."""
    bridge.open()
    assert not bridge.gives_way
    bridge.give_way()
    assert bridge.gives_way
    time.now += 4.9
    assert bridge.open() is None
    assert ledger.share("b", places, LEASE) == frozenset(places)
    assert [reader for reader, _ in asked] == ["a", "b"]
    ledger.leave("b")
    time.now += 0.2
    assert not bridge.gives_way
    assert bridge.open() is broker.consumers[1]


def test_a_broker_whose_groups_can_be_relied_on_is_told_how_far_ingest_is(ledger, broker, time):
    bridge = Partitions(KAFKA, ledger, "a", time)
    bridge.commit()
    consumer = bridge.open()
    assert consumer.options["group_id"] == "mine.ingest"
    bridge.commit()
    broker.fails = {"commit": KafkaError("gone")}
    bridge.commit()
    bridge.close()
    bridge.close()
    assert consumer.told == [{0}, {0}, {0}, 1_000]


def test_a_ledger_that_was_restored_while_no_bridge_ran_is_reported(ledger, broker, time):
    read(ledger, {LogPartition(NAMES[0], 0, "log1"): 5, LogPartition(NAMES[0], 1, "log1"): 7})
    broker.committed = {(NAMES[0], 0): 9, (NAMES[0], 1): 7, (NAMES[1], 0): 1, ("another", 0): 4}
    bridge = Partitions(KAFKA, ledger, "a", time)
    consumer = bridge.open()
    assert (consumer.sought[NAMES[0], 0], consumer.sought[NAMES[1], 0]) == (5, 0)
    told = {incident.subject: incident.reason for incident in ledger.overview().incidents}
    assert told.keys() == {f"{NAMES[0]}-0", f"{NAMES[1]}-0"}
    assert "it was read up to offset 9, and the ledger knew less: the ledger was restored" in told[f"{NAMES[0]}-0"]
    bridge.close()


def test_groups_that_a_broker_does_not_show_are_no_reason_to_wait(ledger, broker, time):
    bridge = Partitions(KAFKA, ledger, "a", time)
    broker.fails = {"groups": CoordinatorNotAvailableError("new")}
    consumer = bridge.open()
    bridge.commit()
    assert consumer.told == []
    broker.fails = {"groups": KafkaError("forbidden")}
    time.now += 1
    assert bridge.open() is consumer
    assert consumer.told == [{0}]
    assert ledger.overview().incidents == ()


# -- whether the log is the one that was read


@pytest.fixture
def has_read(ledger, broker, bridge):
    """A bridge that has read records 0 to 2 of the first partition, and its consumer."""
    consumer = bridge.open()
    batch = {TopicPartition(NAMES[0], 0): [raw(offset) for offset in range(3)]}
    following = bridge.following(bridge.unread(batch, False))
    ledger.ingest([], following=following)
    bridge.written(following)
    return consumer


def fetched(*records):
    return {TopicPartition(NAMES[0], 0): list(records)}


def offsets(found):
    return [record.offset for batch in found.values() for record in batch]


@pytest.mark.parametrize("event", ["a new leader", "a silence of Kafka", "a pause of ours", "a new consumer"])
def test_the_last_record_is_read_once_more_where_the_log_may_be_another(has_read, bridge, event):
    consumer, first = has_read, (NAMES[0], 0)
    if event == "a new consumer":
        bridge.close()
        consumer = bridge.open()
    elif event == "a pause of ours":
        bridge.doubt()
    else:
        assert bridge.unread(fetched(raw(3, epoch=event == "a new leader")), event == "a silence of Kafka") == {}
    assert consumer.sought[first] == 2
    epoch = int(event == "a new leader")
    assert offsets(bridge.unread(fetched(raw(2), raw(3, epoch=epoch)), False)) == [3]
    assert offsets(bridge.unread(fetched(raw(3, epoch=epoch)), False)) == [3]


def test_a_partition_that_was_never_read_is_not_doubted(broker, bridge):
    consumer = bridge.open()
    bridge.doubt()
    assert set(consumer.sought.values()) == {0}
    assert offsets(bridge.unread(fetched(raw(0)), True)) == [0]


def test_positions_of_a_restored_ledger_are_sought_without_a_new_record(ledger, has_read, bridge, time):
    with writing(ledger.engine) as tx:
        tx.execute(update(POSITIONS).values(next=1, fingerprints="[]"))
    time.now += 1
    assert bridge.open() is has_read
    assert set(has_read.sought.values()) == {1}


@pytest.mark.parametrize("bridge", [KAFKA], indirect=True, ids=[""])
@pytest.mark.parametrize("lives", [True, False], ids=["the same bridge", "another bridge"])
def test_a_topic_that_was_made_anew_is_reported_as_lost(ledger, broker, has_read, bridge, time, lives):
    """Its cluster may be the same: so it is where the volume of a broker was removed."""
    broker.logs[NAMES[0]] = "log2"
    if lives:
        with pytest.raises(PositionsMoved):
            bridge.unread(fetched(raw(0, b"other")), False)
    else:
        bridge.close()
        bridge = Partitions(KAFKA, ledger, "b", time)
    assert bridge.open().sought[NAMES[0], 0] == 0
    (told,) = ledger.overview().incidents
    assert told.subject == f"{NAMES[0]}-0"
    assert "read up to offset 3, and matches up to 0" in told.reason
    assert offsets(bridge.unread(fetched(raw(0, b"other")), False)) == [0]
    assert not bridge.read_before(raw(0, b"other"))


def test_a_broker_in_memory_makes_its_topics_anew_without_a_word(ledger, broker, has_read, bridge, time):
    bridge.close()
    broker.logs[NAMES[0]] = "log2"
    assert Partitions(IN_MEMORY, ledger, "b", time).open().sought[NAMES[0], 0] == 0
    assert ledger.overview().incidents == ()


def test_a_move_to_another_cluster_on_purpose_loses_nothing(ledger, broker, has_read, bridge, time):
    ledger.deployment.state(Fact.CLUSTER, "one")
    bridge.close()
    ledger.deployment.restate({Fact.CLUSTER: "two"})
    broker.logs[NAMES[0]] = "log2"
    assert Partitions(KAFKA, ledger, "b", time).open().sought[NAMES[0], 0] == 0
    assert ledger.overview().incidents == ()


def test_the_ledger_knows_until_when_all_is_read(ledger, broker, bridge, time):
    """Up to where the logs ended when the time was taken, though records came since; and each partition for itself."""

    def until():
        return {row.partition: row.read_until for row in ledger.read(select(POSITIONS))}

    bridge.open()
    time.now += 29
    bridge.open()
    asked_at = ledger.now()
    time.now += 2
    bridge.open()
    assert until() == {0: None, 1: None}
    broker.reached = {0: 5, 1: 4}
    bridge.open()
    assert until()[1] is None
    assert until()[0] >= asked_at
    before = ledger.now()
    time.now += 60
    broker.reached = {0: 5, 1: 5}
    bridge.open()
    assert until()[1] <= before
    broker.fails["ends"] = KafkaError("it is away")
    time.now += 60
    bridge.open()  # it reads on


def test_the_ledger_knows_how_many_records_wait(ledger, broker, bridge, time):
    """Offsets that the consumer passed and that are no records, such as ends of transactions, do not count."""

    def lags():
        time.now += 5
        bridge.open()
        with reading(ledger.engine) as tx:
            return {lag for (topic, _), lag in positions.lags(tx).items() if topic == NAMES[0]}

    bridge.open()
    assert lags() == set()
    broker.highwater, broker.reached = {0: 7}, {0: 5, 1: 0}
    assert lags() == {2}
    broker.reached = {0: 7, 1: 0}
    assert lags() == {0}
    bridge.close()
    with reading(ledger.engine) as tx:
        assert positions.lags(tx) == {}


def test_the_ends_of_paused_partitions_are_asked_for(ledger, broker, bridge, time):
    """A full ledger pauses all topics of jobs: nothing is fetched, which would tell where they end."""
    bridge.open()
    broker.highwater, broker.paused = {0: 2, 1: 2}, {TopicPartition(NAMES[0], 0)}
    time.now += 5
    bridge.open()
    with reading(ledger.engine) as tx:
        assert [positions.lags(tx)[NAMES[0], number] for number in (0, 1)] == [5, 2]
