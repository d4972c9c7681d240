"""How a bridge opens, keeps and lets go of what it reads, with a client and a clock of the test's own.

With brokers: test_ingest.py.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from kafka import TopicPartition
from kafka.errors import CommitFailedError, KafkaConnectionError, KafkaError, RebalanceInProgressError

from headrace_producers.settings import KafkaSettings
from headrace_schemas.topics import INBOUND
from headrace_workers.away import KafkaUnavailable
from headrace_workers.bridge import partitions
from headrace_workers.bridge.partitions import Shared, Sole, partitions_of
from headrace_workers.ledger.positions import Place

KAFKA = KafkaSettings.at("127.0.0.1:9", "mine.")
NAMES = [f"mine.{topic}" for topic in INBOUND]


class Broker:
    """What consumers and admins are told, and what they did. Each topic has two partitions."""

    def __init__(self):
        self.logs, self.numbers = dict.fromkeys(NAMES, "log1"), (0, 1)
        self.consumers, self.admins, self.fails = [], [], {}

    def topics(self):
        """As `describe_topics` tells of them."""
        return [
            {"name": name, "topic_id": log, "partitions": [{"partition_index": number} for number in self.numbers]}
            for name, log in self.logs.items()
        ]

    def call(self, name):
        """Fail, where the test wants that."""
        if error := self.fails.get(name):
            raise error


class Consumer:
    """A consumer that notes what it is told."""

    def __init__(self, broker, options):
        self.broker, self.options = broker, options
        self.seen, self.assigned, self.sought, self.subscribed, self.commits, self.closed = [], [], {}, [], 0, []

    def partitions_for_topic(self, topic):
        self.seen.append(topic)

    def subscribe(self, topics):
        self.broker.call("subscribe")
        self.subscribed.append((list(topics), list(self.seen)))

    def assign(self, partitions):
        self.broker.call("assign")
        self.assigned = [tuple(partition) for partition in partitions]

    def seek(self, partition, offset):
        self.sought[tuple(partition)] = offset

    def commit(self):
        self.commits += 1
        self.broker.call("commit")

    def close(self, **options):
        self.closed.append(options)
        self.broker.call("close")


class Admin:
    """An admin client that describes topics."""

    def __init__(self, broker, options):
        self.broker, self.options, self.asked, self.closed = broker, options, [], 0

    def describe_topics(self, names):
        self.asked.append(list(names))
        self.broker.call("describe")
        return self.broker.topics()

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
    return broker


class Time:
    """A clock that the test moves."""

    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def time():
    """The clock of all bridges."""
    return Time()


@pytest.fixture
def asked(ledger, monkeypatch):
    """Who asked for the duty."""
    hold, seen = ledger.hold, []

    def count(duty, holder, lease_ms):
        seen.append((duty, holder, lease_ms))
        return hold(duty, holder, lease_ms)

    monkeypatch.setattr(ledger, "hold", count)
    return seen


@pytest.fixture
def sole(ledger, time):
    """Bridge a, which reads alone."""
    return Sole(KAFKA, ledger, "a", time)


def polled(**records):
    """What a poll brought: so many records of a partition of the first topic, from an offset on."""
    return {
        TopicPartition(NAMES[0], int(name[1:])): [SimpleNamespace(offset=n) for n in offsets]
        for name, offsets in records.items()
    }


def test_it_reads_every_partition_from_where_the_ledger_says(ledger, broker, sole):
    """What the ledger does not know, or knows of another log, is read from its beginning. Nothing is committed."""
    ledger.ingest([], following={Place(NAMES[0], 0, "log1"): 5, Place(NAMES[0], 1, "log0"): 7})
    consumer = sole.open()
    assert sole.open() is consumer
    assert consumer.assigned == [(name, number) for name in NAMES for number in (0, 1)]
    assert consumer.sought == dict.fromkeys(consumer.assigned, 0) | {(NAMES[0], 0): 5}
    assert sole.following(polled(p0=[5, 6, 9], p1=[0])) == {
        Place(NAMES[0], 0, "log1"): 10, Place(NAMES[0], 1, "log1"): 1
    }  # fmt: skip
    sole.commit()
    assert consumer.commits == 0
    options = consumer.options
    assert (options["group_id"], options["enable_auto_commit"], options["auto_offset_reset"]) == (
        None, False, "earliest",
    )  # fmt: skip
    assert (options["isolation_level"], options["max_poll_records"]) == ("read_committed", partitions.BATCH)


def test_the_duty_to_read_is_asked_for_when_a_third_of_its_lease_is_gone(broker, sole, time, asked):
    """Not for each poll, and long before another may take it."""
    for seconds, times in ((0, 1), (0.4, 1), (0.2, 2), (0.4, 2), (5, 3)):
        time.now += seconds
        sole.open()
        assert len(asked) == times, seconds
    assert set(asked) == {("ingest", "a", 1_500)}


def test_who_has_not_the_duty_reads_nothing_and_asks_each_time(ledger, broker, sole, asked):
    """It takes over when the other lays it down."""
    ledger.hold("ingest", "b", 60_000)
    assert [sole.open(), sole.open()] == [None, None]
    assert (len(asked), broker.consumers, broker.admins) == (3, [], [])
    ledger.lay_down("b")
    assert sole.open() is broker.consumers[0]


def test_who_loses_the_duty_lets_go_at_once(ledger, broker, sole, time, asked):
    """And asks for it each time; with it again it reads anew from where the ledger says then."""
    sole.open()
    ledger.lay_down("a")
    ledger.hold("ingest", "b", 60_000)
    time.now += 1
    assert sole.open() is None
    assert broker.consumers[0].closed == [{"autocommit": False, "timeout_ms": 5_000}]
    time.now += 0.01
    assert sole.open() is None
    ledger.lay_down("b")
    ledger.ingest([], following={Place(NAMES[1], 1, "log1"): 3})
    assert sole.open() is broker.consumers[1]
    assert broker.consumers[1].sought[NAMES[1], 1] == 3
    assert [holder for _, holder, _ in asked] == ["a", "b", "a", "a", "a"]


def test_a_topic_that_was_made_anew_is_noticed_within_a_second(broker, sole, time):
    """It has another id; the rest is looked at as rarely. A topic that stays what it was costs no new consumer."""
    first = sole.open()
    broker.logs[NAMES[1]] = "log2"
    time.now += 0.9
    assert sole.open() is first
    assert len(broker.admins[0].asked) == 1
    time.now += 0.1
    second = sole.open()
    assert second is not first
    assert (len(first.closed), second.closed) == (1, [])
    assert sole.following(polled(p0=[1])) == {Place(NAMES[0], 0, "log1"): 2}
    time.now += 1.0
    assert sole.open() is second
    assert broker.admins[0].asked == [NAMES] * 3
    assert len(broker.admins) == 1


def test_topics_that_are_not_there_are_named(broker, sole, time):
    """With what makes them; so is one without partitions."""
    del broker.logs[NAMES[0]]
    with pytest.raises(KafkaUnavailable, match=f"topics {NAMES[0]} are not there: `headrace init` creates them"):
        sole.open()
    broker.logs[NAMES[0]] = "log1"
    broker.numbers = ()
    with pytest.raises(KafkaUnavailable, match="are not there"):
        sole.open()
    broker.numbers = (0, 1)
    assert sole.open() is not None  # asked again at once


def test_a_broker_that_is_away_is_told_and_asked_by_a_new_client(broker, sole, time):
    """The old one is closed, whatever that brings."""
    broker.fails = {"describe": KafkaConnectionError("refused"), "close": KafkaError("odd")}
    for _ in range(2):
        with pytest.raises(KafkaUnavailable, match=r"no broker answers at 127\.0\.0\.1:9: .*refused"):
            sole.open()
    assert [admin.closed for admin in broker.admins] == [1, 1]
    broker.fails = {}
    assert sole.open() is not None
    assert len(broker.admins) == 3


@pytest.mark.parametrize("step", ["assign", "read_any_record"])
def test_a_consumer_that_could_not_be_opened_is_closed(broker, sole, step):
    """Whatever went wrong, also where that cannot be closed; the next try makes another."""
    broker.fails = {step: RuntimeError("odd"), "close": KafkaError("odd")}
    with pytest.raises(RuntimeError, match="odd"):
        sole.open()
    assert [len(consumer.closed) for consumer in broker.consumers] == [1]
    broker.fails = {}
    assert sole.open() is broker.consumers[1]


def test_who_closes_lays_down_the_duty_to_read_alone(ledger, broker, sole, time, asked):
    """Another takes over at once; this one may begin again."""
    ledger.hold("relay", "a", 60_000)
    sole.open()
    broker.fails = {"close": KafkaError("odd")}
    sole.close()
    sole.close()
    broker.fails = {}
    assert (len(broker.consumers[0].closed), broker.admins[0].closed) == (1, 1)
    assert not ledger.hold("relay", "b", 60_000)
    assert ledger.hold("ingest", "b", 60_000)
    assert sole.open() is None
    ledger.lay_down("b", "ingest")
    assert sole.open() is broker.consumers[1]
    assert len(broker.admins) == 2


def test_a_member_of_a_group_subscribes_once_it_has_seen_the_topics(broker):
    """In the group of its deployment; it stays open until it is closed, and then leaves without a commit."""
    shared = Shared(KAFKA)
    shared.commit()
    consumer = shared.open()
    assert shared.open() is consumer
    assert consumer.subscribed == [(NAMES, NAMES)]
    options = consumer.options
    assert (options["group_id"], options["session_timeout_ms"], options["heartbeat_interval_ms"]) == (
        "mine.ingest", 6_000, 1_500,
    )  # fmt: skip
    assert (options["enable_auto_commit"], options["isolation_level"]) == (False, "read_committed")
    assert shared.following(polled(p0=[1])) == {}
    shared.commit()
    shared.close()
    shared.close()
    assert (consumer.commits, consumer.closed) == (1, [{"autocommit": False, "timeout_ms": 5_000}])
    assert shared.open() is broker.consumers[1]


@pytest.mark.parametrize("error", [RebalanceInProgressError("now"), CommitFailedError("late")])
def test_what_cannot_be_committed_while_a_group_forms_anew_is_passed_over(broker, error):
    """It is read again. Any other error is one."""
    shared = Shared(KAFKA)
    shared.open()
    broker.fails = {"commit": error}
    shared.commit()
    broker.fails = {"commit": KafkaError("gone")}
    with pytest.raises(KafkaError, match="gone"):
        shared.commit()


@pytest.mark.parametrize("error", [KafkaError("gone"), KeyboardInterrupt("gone")])
def test_a_member_that_could_not_subscribe_is_closed(broker, error):
    """Whatever went wrong; the next try makes another."""
    shared = Shared(KAFKA)
    broker.fails = {"subscribe": error}
    with pytest.raises(type(error), match="gone"):
        shared.open()
    broker.fails = {}
    assert shared.open() is broker.consumers[1]
    assert [len(consumer.closed) for consumer in broker.consumers] == [1, 0]


def test_the_settings_say_which_way(ledger, time):
    """Groups, or the ledger."""
    ways = [partitions_of(replace(KAFKA, groups=groups), ledger, "a", time) for groups in (True, False)]
    assert [type(way) for way in ways] == [Shared, Sole]
