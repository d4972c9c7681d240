"""Outbox to Kafka, on each broker."""

import pytest
from kafka.errors import KafkaError
from sqlalchemy import func, select
from tests.services.eventually import eventually
from tests.services.records import read

from headrace_producers.admin import ensure_topics
from headrace_schemas import Topic
from headrace_schemas.errors import Unavailable
from headrace_workers.away import AWAY
from headrace_workers.bridge.relay import Relay
from headrace_workers.clock import SystemClock
from headrace_workers.ledger.database import writing
from headrace_workers.ledger.outbox import Outgoing, put
from headrace_workers.ledger.tables import OUTBOX

PUBLISHED = (Topic.OUTPUTS, Topic.RESULTS)


def say(ledger, count, *, jobs=5, start=0):
    """Put numbered records of some jobs into the outbox."""
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
def relays(ledger):
    """Makes relays, and closes them."""
    made = []

    def make(kafka, name="a"):
        made.append(Relay(kafka=kafka, ledger=ledger, bridge=name, clock=SystemClock()))
        return made[-1]

    yield make
    for relay in made:
        relay.close()


def test_events_come_out_in_order_per_job(ledger, kafka, relays):
    """Key, headers and value are as they were decided; the outbox is empty afterwards."""
    say(ledger, 1_200)
    relay = relays(kafka)
    assert [relay.once() for _ in range(3)] == [1_000, 200, 0]
    assert left(ledger) == 0
    by_job = {}
    for record in read(kafka, PUBLISHED):
        by_job.setdefault(record.key, []).append(int(record.value))
        assert dict(record.headers)["ce_id"] == f"e{int(record.value)}".encode()
    assert by_job == {f"job{j}".encode(): list(range(j, 1_200, 5)) for j in range(5)}


def test_events_that_were_not_confirmed_stay(ledger, kafka, relays, monkeypatch):
    """One failure keeps all of them; they are sent again under the same ids, and then removed."""
    say(ledger, 10)
    relay = relays(kafka)
    producer = relay._open()
    flush = producer.flush

    def broken(timeout=None):
        flush(timeout=timeout)
        raise KafkaError("no answer")

    monkeypatch.setattr(producer, "flush", broken)
    with pytest.raises(KafkaError):
        relay.once()
    assert left(ledger) == 10
    assert relay.once() == 10
    ids = [dict(record.headers)["ce_id"] for record in read(kafka, PUBLISHED)]
    assert (len(ids), len(set(ids)), left(ledger)) == (20, 10, 0)


def test_a_ledger_that_fails_after_the_publishing_means_twice_and_never_none(ledger, kafka, relays, monkeypatch):
    """Rows go only after Kafka has them."""
    say(ledger, 3)
    relay, published, failures = relays(kafka), ledger.published, [Unavailable("away")]

    def flaky(ids):
        assert len(read(kafka, PUBLISHED)) >= 3
        if failures:
            raise failures.pop()
        published(ids)

    monkeypatch.setattr(ledger, "published", flaky)
    with pytest.raises(Unavailable):
        relay.once()
    assert relay.once() == 3
    assert left(ledger) == 0


def test_only_one_of_two_bridges_publishes(ledger, kafka, relays):
    """So order per job holds; when the one lays its duty down, the other takes over at once."""
    first, second = relays(kafka, "a"), relays(kafka, "b")
    say(ledger, 5)
    assert (first.once(), second.once()) == (5, 0)
    say(ledger, 5, start=5)
    assert second.once() == 0
    ledger.lay_down("a")
    assert second.once() == 5
    assert [int(r.value) for r in sorted(read(kafka, PUBLISHED), key=lambda r: int(r.value))] == list(range(10))


def test_a_broker_that_is_killed_loses_nothing(ledger, apache_kafka, fresh_prefix, relays):
    """While it is away events wait in the ledger; after its restart all are there."""
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka)
    relay = relays(kafka)
    say(ledger, 20)
    assert relay.once() == 20
    apache_kafka.kill()
    say(ledger, 20, start=20)
    relay._ledger.hold("relay", "a", 60_000)
    published = []

    def publish():
        try:
            published.append(relay.once())
        except AWAY:
            return False
        return left(ledger) == 0

    apache_kafka.restart()
    eventually(publish, 60)
    values = {int(record.value) for record in read(kafka, PUBLISHED)}
    assert values == set(range(40))
