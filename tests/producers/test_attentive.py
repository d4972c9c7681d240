from contextlib import closing

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from tests.services.eventually import eventually

from headrace_producers.admin import ensure_topics
from headrace_producers.attentive import attend
from headrace_producers.end_topics import EndTopics
from headrace_producers.kafka_internals import fetch_wait_ms
from headrace_schemas import Topic
from headrace_workers.runtime.bridge.partitions import _consumer


@pytest.fixture
def embedded(embedded_kafka, fresh_prefix):
    settings = embedded_kafka.settings(fresh_prefix)
    ensure_topics(settings)
    return settings


@pytest.fixture
def place(embedded):
    return TopicPartition(embedded.topic(Topic.RESULTS), 0)


@pytest.fixture
def consumer(embedded, place):
    found = KafkaConsumer(**embedded.client_options(), enable_auto_commit=False)
    attend(found, embedded)
    found.assign([place])
    found.seek(place, 0)
    with closing(found):
        yield found


def test_it_grows_while_nothing_comes_and_is_short_again_when_something_does(embedded, place, consumer):
    assert fetch_wait_ms(consumer) == 20
    waits = []
    for _ in range(6):
        assert consumer.poll(timeout_ms=1) == {}
        waits.append(fetch_wait_ms(consumer))
    assert waits == [40, 80, 160, 320, 500, 500]
    with closing(KafkaProducer(**embedded.client_options())) as producer:
        producer.send(place.topic, b"there", partition=0).get(timeout=120)
    eventually(lambda: consumer.poll(timeout_ms=1_000))
    assert fetch_wait_ms(consumer) == 20


def test_readers_of_ends_and_bridges_are_attentive(embedded):
    ends = EndTopics(embedded, None, from_beginning=False, timeout=30)
    bridge = _consumer(embedded, group_id=None)
    try:
        assert fetch_wait_ms(ends._client) == fetch_wait_ms(bridge) == 20
    finally:
        ends.close()
        bridge.close()


def test_a_broker_that_answers_at_once_is_asked_to_wait(apache_kafka, fresh_prefix):
    """Apache Kafka keeps a fetch until there is something: a short wait would only cost."""
    settings = apache_kafka.settings(fresh_prefix)
    ensure_topics(settings)
    ends = EndTopics(settings, None, from_beginning=False, timeout=30)
    try:
        assert list(ends.poll(0.01)) == []
        assert fetch_wait_ms(ends._client) == 500
    finally:
        ends.close()
