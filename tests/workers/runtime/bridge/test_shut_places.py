"""A topic that takes nothing holds nobody else: what is for it waits in the outbox."""

from contextlib import suppress
from types import SimpleNamespace

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)
from kafka.cluster import ClusterMetadata
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError
from sqlalchemy import select
from tests.services.eventually import eventually
from tests.services.records import read
from tests.workers.runtime.bridge.test_relay import put_values, relays  # noqa: F401  # a fixture

from headrace_producers.admin import PARTITIONS, ensure_topics
from headrace_schemas import Topic
from headrace_workers.core.tables import OUTBOX
from headrace_workers.runtime.bridge.destinations import Partitions

A, B = Topic.OUTPUTS, Topic.RESULTS


def waiting(ledger):
    return [tuple(row) for row in ledger.read(select(OUTBOX.c.key, OUTBOX.c.value).order_by(OUTBOX.c.id))]


def values(kafka, topic):
    found = {}
    for record in read(kafka, [topic]):
        found.setdefault(record.key.decode() if record.key else None, []).append(record.value)
    return found


def remove(kafka, topic):
    """Delete a topic, and wait until it is gone."""
    admin = KafkaAdminClient(**kafka.client_options())
    admin.delete_topics([kafka.topic(topic)])
    eventually(lambda: kafka.topic(topic) not in admin.list_topics())
    admin.close()


def partition_of(key):
    cluster = SimpleNamespace(partitions_for_topic=lambda _topic: range(PARTITIONS))
    return Partitions().partition("", None, key.encode(), None, None, cluster)


def refused(kafka, topic):
    """Whether the broker forbids to write to a topic: it takes a moment after it was told so. A record that is on its
    way in that moment may be told of never.
    """
    producer = KafkaProducer(**kafka.client_options())
    try:
        producer.send(kafka.topic(topic), b"probe").get(5)
    except TopicAuthorizationFailedError:
        return True
    except KafkaTimeoutError:
        return False
    finally:
        with suppress(KafkaTimeoutError):
            producer.close(timeout=0)
    return False


def run_out(relay):
    """Let a relay go on until it has nothing more to do."""
    for _ in range(50):
        if not relay.once():
            return
    raise AssertionError("it never came to an end")


def try_again(relay):
    """Let the time pass after which it tries again what was shut."""
    relay._passing.begun -= 3_600


@pytest.fixture
def kafka(apache_kafka, fresh_prefix):
    """Apache Kafka alone: the embedded broker makes a topic when it is asked for one."""
    settings = apache_kafka.settings(fresh_prefix)
    ensure_topics(settings)
    return settings


def test_a_missing_topic_holds_only_what_is_meant_for_it(ledger, kafka, relays):  # noqa: F811
    remove(kafka, A)
    put_values(ledger, *((f"a{n}", b"1") for n in range(1_100)), (None, b"1"))
    put_values(ledger, ("a0", b"2"), ("b", b"2"), (None, b"2"), topic=B)
    relay = relays(kafka)
    run_out(relay)
    assert values(kafka, B) == {"b": [b"2"], None: [b"2"]}
    assert len(waiting(ledger)) == 1_102
    assert waiting(ledger)[-1] == ("a0", b"2")
    assert ledger.aside() == []
    [trouble] = ledger.open_incidents()
    assert trouble.subject == "relay topic outputs"
    assert trouble.reason == f"the topic {kafka.topic(A)} is not there: `headrace init` makes it"
    assert relay.waits.what == "the topic outputs"
    put_values(ledger, ("b", b"3"), ("a1", b"3"), topic=B)
    run_out(relay)
    assert values(kafka, B)["b"] == [b"2", b"3"]
    try_again(relay)
    run_out(relay)
    assert len(waiting(ledger)) == 1_103
    assert [trouble.subject for trouble in ledger.open_incidents()] == ["relay topic outputs"]
    ensure_topics(kafka)
    try_again(relay)
    run_out(relay)
    assert waiting(ledger) == []
    assert len(values(kafka, A)) == 1_101
    assert (values(kafka, B)["a0"], values(kafka, B)["a1"]) == ([b"2"], [b"3"])
    assert (ledger.open_incidents(), relay.waits) == ([], None)


def test_a_forbidden_topic_holds_only_what_is_meant_for_it(ledger, kafka, relays):  # noqa: F811
    admin = KafkaAdminClient(**kafka.client_options())
    pattern = ResourcePattern(ResourceType.TOPIC, kafka.topic(A))
    admin.create_acls([ACL("User:ANONYMOUS", "*", ACLOperation.WRITE, ACLPermissionType.DENY, pattern)])
    eventually(lambda: refused(kafka, A))
    put_values(ledger, ("a", b"1"), ("c", b"1"))
    put_values(ledger, ("a", b"2"), ("b", b"2"), topic=B)
    relay = relays(kafka)
    eventually(lambda: relay.once() == 0 and relay.waits)
    assert waiting(ledger) == [("a", b"1"), ("c", b"1"), ("a", b"2")]
    assert relay.waits.why == f"the broker forbids the bridge to write to the topic {kafka.topic(A)}: allow it there"
    before = values(kafka, B)
    assert before["b"] == [b"2"]
    put_values(ledger, ("c", b"3"), ("d", b"3"), topic=B)
    for _ in range(3):
        try_again(relay)
        run_out(relay)
    assert values(kafka, B) == before | {"d": [b"3"]}
    admin.delete_acls([ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, pattern)])
    admin.close()

    def published():
        if relay._passing:
            try_again(relay)
        run_out(relay)
        return waiting(ledger) == []

    eventually(published)
    told = values(kafka, A)
    assert (told["a"], told["c"], values(kafka, B)["c"]) == ([b"1"], [b"1"], [b"3"])


def test_a_partition_without_a_leader_holds_only_what_is_meant_for_it(ledger, kafka, relays, monkeypatch):  # noqa: F811
    home = partition_of("a")
    other = next(key for key in "bcdefgh" if partition_of(key) != home)
    lost = TopicPartition(kafka.topic(A), home)
    leader, led = ClusterMetadata.leader_for_partition, ClusterMetadata.partitions_for_broker
    # What a client is told by brokers of which one is away; there is only one here.
    monkeypatch.setattr(
        ClusterMetadata, "leader_for_partition", lambda self, place: -1 if place == lost else leader(self, place)
    )
    monkeypatch.setattr(
        ClusterMetadata, "partitions_for_broker", lambda self, node: (led(self, node) or set()) - {lost}
    )
    put_values(ledger, ("a", b"1"), (other, b"1"))
    put_values(ledger, ("a", b"2"), (other, b"2"), topic=B)
    relay = relays(kafka)
    run_out(relay)
    assert relay.waits.why == f"partition {home} of the topic {kafka.topic(A)} has no leader: its brokers are away"
    assert [trouble.subject for trouble in ledger.open_incidents()] == [f"relay topic outputs, partition {home}"]
    put_values(ledger, ("a", b"3"), (other, b"3"))
    try_again(relay)
    run_out(relay)
    assert waiting(ledger) == [("a", b"1"), ("a", b"2"), ("a", b"3")]
    monkeypatch.undo()
    try_again(relay)
    run_out(relay)
    assert waiting(ledger) == []
    assert values(kafka, A) == {"a": [b"1", b"3"], other: [b"1", b"3"]}
