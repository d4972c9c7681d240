"""One face over each transport, so that one suite of tests runs on all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from headrace_producers import KafkaSettings, MemoryProducer, Producer, ProducerSettings
from headrace_producers.admin import ensure_topics
from headrace_producers.kafka import KafkaSink
from headrace_producers.producer import Record
from headrace_schemas import Topic
from headrace_schemas.topics import topic_of


@dataclass
class Transport:
    """A producer, and how to see what it has sent: all records, in order per key."""

    producer: Producer
    sent: Callable[[], list[Record]]


def read_all(settings: KafkaSettings) -> list[Record]:
    """All records in all topics, read with kafka-python alone."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(**settings.client_options(), auto_offset_reset="earliest", enable_auto_commit=False)
    names = [settings.topic(topic) for topic in Topic]
    partitions = [TopicPartition(name, number) for name in names for number in consumer.partitions_for_topic(name)]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    consumer.seek_to_beginning(*partitions)
    records: list[Record] = []
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for partition, batch in consumer.poll(timeout_ms=500).items():
            topic = topic_of(partition.topic, settings.prefix)
            records += [Record(topic, r.key, list(r.headers), r.value, r.key.decode()) for r in batch]
    consumer.close()
    return records


@pytest.fixture(params=["memory", "embedded_kafka", "apache_kafka"])
def transport(request: pytest.FixtureRequest, fresh_prefix: str) -> Iterator[Transport]:
    """A producer of each kind, whose calls say nothing about tenant and model."""
    settings = ProducerSettings(tenant="acme", source="/shop", model="tiny")
    if request.param == "memory":
        memory = MemoryProducer(settings)
        yield Transport(memory, lambda: list(memory.records))
        return
    kafka: KafkaSettings = request.getfixturevalue(request.param).settings(fresh_prefix)
    ensure_topics(kafka)
    producer = Producer(KafkaSink(kafka, linger_ms=1), settings)
    yield Transport(producer, lambda: read_all(kafka))
    producer.close()
