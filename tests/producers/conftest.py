"""One face over each transport, so that one suite of tests runs on all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from tests.services.records import read

from headrace_producers import KafkaSettings, MemoryProducer, Producer, ProducerSettings
from headrace_producers.admin import ensure_topics
from headrace_producers.kafka import KafkaSink
from headrace_producers.sink import Record
from headrace_schemas import Topic
from headrace_schemas.topics import topic_of


@dataclass
class Transport:
    """A producer, and how to see what it has sent: all records, in order per key."""

    producer: Producer
    sent: Callable[[], list[Record]]


def read_all(settings: KafkaSettings) -> list[Record]:
    """All records in all topics, read with kafka-python alone."""
    return [
        Record(topic_of(each.topic, settings.prefix), each.key, list(each.headers), each.value, each.key.decode())
        for each in read(settings, Topic)
    ]


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
