import threading
import time

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from sqlalchemy import func, select
from tests.services.eventually import eventually
from tests.services.records import read
from tests.workers.tasks_in_memory import Tasks

from headrace_producers.admin import ensure_topics
from headrace_schemas import Topic
from headrace_schemas.errors import Unavailable
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.event_units import Following
from headrace_workers.core.ledger.outbox import OutboxRow, Outgoing, put
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import OUTBOX
from headrace_workers.runtime.bridge.duty import IncidentReporter
from headrace_workers.runtime.bridge.event_publisher import Publisher, waves
from headrace_workers.runtime.bridge.relay import Relay
from headrace_workers.runtime.wire.assignment import Assigner, FollowUp

PUBLISHED = (Topic.OUTPUTS, Topic.RESULTS)


def say(ledger, count, *, jobs=5, start=0):
    records = [
        Outgoing(PUBLISHED[0], f"job{n % jobs}", {"ce_id": f"e{n}", "ce_type": "t"}, str(n).encode())
        for n in range(start, start + count)
    ]
    with writing(ledger.engine) as tx:
        put(tx, records)


def left(ledger):
    """How many records are in the outbox."""
    return ledger.read(select(func.count()).select_from(OUTBOX))[0][0]


@pytest.fixture
def relays(ledger, monkeypatch):
    """Makes relays, and closes them. None loses its duty because the machine is busy."""
    monkeypatch.setattr("headrace_workers.runtime.bridge.relay.DUTY_LEASE", 600.0)
    made = []

    def make(kafka, name="a"):
        clock = SystemClock()
        incidents = IncidentReporter(ledger, name, clock)
        made.append(
            Relay(
                publisher=Publisher(kafka),
                ledger=ledger,
                bridge=name,
                clock=clock,
                incidents=incidents,
                follow_up=FollowUp(
                    ledger=ledger,
                    units=Following().units,
                    assigner=Assigner(ledger=ledger, tasks=Tasks(waiting=99), sender=name, depth=2, lease_ms=60_000),
                ),
            )
        )
        return made[-1]

    yield make
    for relay in made:
        relay.close()


@pytest.mark.parametrize("partitions", [4])
def test_events_come_out_in_order_per_job(ledger, kafka, relays):
    say(ledger, 1_200)
    relay = relays(kafka)
    assert [(relay.once(), relay.rest > 0) for _ in range(3)] == [(1_000, False), (200, True), (0, True)]
    assert left(ledger) == 0
    by_job = {}
    for record in read(kafka, PUBLISHED):
        by_job.setdefault(record.key, []).append(int(record.value))
        assert dict(record.headers)["ce_id"] == f"e{int(record.value)}".encode()
    assert by_job == {f"job{j}".encode(): list(range(j, 1_200, 5)) for j in range(5)}


def test_a_ledger_that_fails_after_the_publishing_means_twice_and_never_none(ledger, kafka, relays, monkeypatch):
    say(ledger, 3)
    relay, published, failures = relays(kafka), ledger.published, [Unavailable("away")]

    def flaky(*args):
        assert len(read(kafka, PUBLISHED)) >= 3
        if failures:
            raise failures.pop()
        return published(*args)

    monkeypatch.setattr(ledger, "published", flaky)
    with pytest.raises(Unavailable):
        relay.once()
    assert relay.once() == 3
    assert left(ledger) == 0


def put_values(ledger, *pairs, topic=PUBLISHED[0]):
    with writing(ledger.engine) as tx:
        put(tx, [Outgoing(topic, key, {"ce_type": "t"}, value) for key, value in pairs])


def limit(kafka, topic, size):
    admin = KafkaAdminClient(**kafka.client_options())
    change = ConfigResource(ConfigResourceType.TOPIC, kafka.topic(topic), {"max.message.bytes": str(size)})
    admin.alter_configs([change])
    ask = ConfigResource(ConfigResourceType.TOPIC, kafka.topic(topic))

    def known():
        return admin.describe_configs([ask])["topic"][kafka.topic(topic)]["max.message.bytes"]["value"] == str(size)

    eventually(known)
    admin.close()


def test_an_event_that_is_too_large_is_set_aside_and_the_rest_goes_on(ledger, apache_kafka, fresh_prefix, relays):
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka, partitions=1)
    limit(kafka, PUBLISHED[0], 100_000)
    large = b"1" * 150_000
    put_values(ledger, ("a", b"0"), ("a", large), ("b", b"5"), ("a", b"2"))
    put_values(ledger, ("a", b"3"), ("b", b"6"), topic=PUBLISHED[1])
    relay = relays(kafka)
    while relay.once():
        pass
    put_values(ledger, ("a", b"4"), ("b", b"7"))
    assert relay.once() == 1
    assert [r.value for r in read(kafka, PUBLISHED) if r.key == b"a"] == [b"0"]
    assert sorted(r.value for r in read(kafka, PUBLISHED) if r.key == b"b") == [b"5", b"6", b"7"]
    [aside] = ledger.aside()
    assert (aside.topic, aside.key, aside.size, aside.behind) == ("outputs", "a", 150_000, 3)
    assert "150,000 bytes are more than the topic" in aside.reason
    limit(kafka, PUBLISHED[0], 1_000_000)
    assert ledger.retry_outbox([aside.id]) == 1
    while relay.once():
        pass
    assert [r.value for r in read(kafka, PUBLISHED[:1]) if r.key == b"a"] == [b"0", large, b"2", b"4"]
    assert (ledger.aside(), left(ledger)) == ([], 0)


def test_of_many_only_those_that_are_too_large_are_set_aside(ledger, apache_kafka, fresh_prefix, relays):
    """After one refusal kafka-python fails all that follows with the very same error: nobody else must suffer."""
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka, partitions=1)
    limit(kafka, PUBLISHED[0], 50_000)
    values = [(f"k{n % 40}", b"%d " % n + (b"x" * 60_000 if n in (3, 50, 51) else b"")) for n in range(100)]
    put_values(ledger, *values)
    relay = relays(kafka)
    while relay.once():
        pass
    assert [int(row.key[1:]) for row in ledger.aside()] == [3, 10, 11]
    told = {int(record.value.split()[0]) for record in read(kafka, PUBLISHED)}
    assert told == set(range(100)) - {3, 43, 83, 50, 90, 51, 91}


def test_what_follows_a_large_event_is_sent_when_its_fate_is_known():
    small, large = b"s", b"x" * 100_000
    pairs = [("a", small), ("a", large), ("b", large), ("c", small), ("b", small), ("a", small), (None, large)]
    rows = [OutboxRow(n, Outgoing(PUBLISHED[0], key, {}, value)) for n, (key, value) in enumerate(pairs)]
    assert [[row.id for row in wave] for wave in waves(rows)] == [[0, 1, 2, 3], [4, 5, 6]]
    assert list(waves([])) == []
    rows = [rows[0], OutboxRow(9, Outgoing(PUBLISHED[1], "a", {}, small)), rows[4]]
    assert [[row.id for row in wave] for wave in waves(rows, {PUBLISHED[0]})] == [[0], [9, 4]]
    assert [[row.id for row in wave] for wave in waves(rows, {PUBLISHED[1]})] == [[0, 9, 4]]


def test_rows_are_bounded_in_bytes(ledger, embedded_kafka, fresh_prefix, relays):
    put_values(ledger, *[(f"k{n}", b"x" * 3_000_000) for n in range(5)])
    kafka = embedded_kafka.settings(fresh_prefix)
    ensure_topics(kafka, partitions=1)
    relay = relays(kafka)
    assert [(relay.once(), relay.rest > 0) for _ in range(3)] == [(3, False), (2, True), (0, True)]


def test_a_broker_that_does_not_answer_holds_nobody_for_long(ledger, embedded_kafka, fresh_prefix):
    kafka = embedded_kafka.settings(fresh_prefix)
    ensure_topics(kafka, partitions=1)
    say(ledger, 1)
    publisher = Publisher(kafka)
    now = int(time.time() * 1000)
    rows = ledger.outbox(10)
    assert publisher.publish(rows, timestamp=now, seconds=30).confirmed == [rows[0].id]
    embedded_kafka.freeze()
    try:
        done = []
        thread = threading.Thread(
            target=lambda: done.append(publisher.publish(rows, timestamp=now, seconds=0.5)), daemon=True
        )
        thread.start()
        thread.join(120)
        assert done
        assert (done[0].confirmed, type(done[0].error).__name__) == ([], "KafkaTimeoutError")
    finally:
        embedded_kafka.restart()
    assert not [t for t in threading.enumerate() if t.name == "close-producer" and not t.daemon]
