"""The private parts of kafka-python that headrace uses are in the installed release, and do what headrace expects.

A test that fails here after an upgrade names one function of `kafka_internals`: look at what the library does now, mend
that function, and set `TESTED` there and the bounds in pyproject.toml to the new release.
"""

import inspect
import re
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.cluster import ClusterMetadata
from kafka.consumer.fetcher import Fetcher
from kafka.producer.sender import Sender
from kafka.version import __version__
from tests.services.eventually import eventually

from headrace_producers import kafka_internals
from headrace_producers.kafka_internals import (
    TESTED,
    abandon,
    ask_for_topic,
    consumer_metadata,
    fetch_wait_ms,
    fetcher_of,
    follow_fetches,
    metadata_is_newer,
    mistrust_lost_ids,
    producer_metadata,
    set_fetch_wait_ms,
    stop_sending,
)
from headrace_schemas import Topic
from headrace_schemas.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
PRIVATE = re.compile(r"\b(?:consumer|producer|_client|fetcher|sender|cluster|metadata)\._(?!_)[a-z]\w*")
WHAT_TO_DO = "kafka-python {}: {} has moved. Mend headrace_producers/kafka_internals.py, where it is used"


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (Fetcher, {"_parse_fetched_data": 2, "_handle_fetch_response": 5}),
        (KafkaProducer, {"_wait_on_metadata": 3, "_unregister_cleanup": 1}),
        (Sender, {"_is_retention_based_unknown_producer_id": 4, "force_close": 1, "join": 2}),
        (ClusterMetadata, {"partitions_for_topic": 2, "leader_for_partition": 2, "topic_id": 2}),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_the_methods_are_there(owner, names):
    for name, count in names.items():
        found = getattr(owner, name, None)
        assert found is not None, WHAT_TO_DO.format(__version__, f"{owner.__name__}.{name}")
        assert len(inspect.signature(found).parameters) == count, WHAT_TO_DO.format(__version__, name)


def test_retention_is_asked_for_where_a_producers_id_is_unknown():
    calls = "self._is_retention_based_unknown_producer_id("
    assert calls in inspect.getsource(Sender), WHAT_TO_DO.format(__version__, calls)


def test_the_release_is_the_one_that_errors_name():
    assert __version__ == TESTED
    assert f"kafka-python[crc32c]>={TESTED}" in (ROOT / "pyproject.toml").read_text("utf-8")


def test_a_library_that_is_built_otherwise_is_refused():
    expected = rf"is not built as headrace expects \(.*'_fetcher'.*\): install kafka-python {re.escape(TESTED)}"
    with pytest.raises(ConfigurationError, match=expected):
        fetcher_of(SimpleNamespace())


def test_nothing_else_reaches_into_the_library():
    files = [path for room in ("producers", "workers") for path in (ROOT / room).rglob("*.py")]
    found = {path.name: PRIVATE.findall(path.read_text("utf-8")) for path in files}
    assert {name for name, uses in found.items() if uses} == {Path(kafka_internals.__file__).name}


def test_a_fetch_is_followed_and_its_wait_is_set(kafka):
    consumer = KafkaConsumer(**kafka.client_options(), enable_auto_commit=False)
    with closing(consumer), closing(KafkaProducer(**kafka.client_options())) as producer:
        place = TopicPartition(kafka.topic(Topic.RESULTS), 0)
        producer.send(place.topic, b"there", partition=0).get(timeout=60)
        fetched, answers, records = [], [], []

        def parse(own, completed):
            fetched.append((completed.topic_partition, completed.fetched_offset, completed.partition_data.error_code))
            assert completed.partition_data.high_watermark >= completed.partition_data.last_stable_offset
            return own(completed)

        def handle(own, response):
            answers.append(response)
            return own(*response)

        follow_fetches(consumer, parse=parse, handle=handle)
        set_fetch_wait_ms(consumer, 20)
        assert fetch_wait_ms(consumer) == 20
        consumer.assign([place])
        consumer.seek(place, 0)

        def read():
            for batch in consumer.poll(timeout_ms=100).values():
                records.extend(batch)
            return records

        eventually(read)
        assert [record.value for record in records] == [b"there"]
        assert (place, 0, 0) in fetched
        assert answers
        assert consumer_metadata(consumer).partitions_for_topic(place.topic)
        consumer_metadata(consumer).topic_id(place.topic)  # None where a broker has no ids


def test_a_producers_metadata_is_asked_for(kafka):
    begun = time.monotonic()
    with closing(KafkaProducer(**kafka.client_options())) as producer:
        there = kafka.topic(Topic.RESULTS)
        ask_for_topic(producer, there, 60)
        metadata = producer_metadata(producer)
        assert metadata.leader_for_partition(TopicPartition(there, 0)) not in (None, -1)
        assert metadata_is_newer(metadata, begun)
        assert not metadata_is_newer(metadata, time.monotonic() + 3_600)


@pytest.mark.parametrize("end", [abandon, lambda producer: stop_sending(producer, 60)], ids=["abandon", "stop_sending"])
def test_a_producer_ends_without_a_broker(embedded_kafka, end):
    producer = KafkaProducer(
        **embedded_kafka.settings("gone.").client_options(), linger_ms=3_600_000, delivery_timeout_ms=7_200_000
    )
    mistrust_lost_ids(producer)
    end(producer)
    eventually(lambda: not producer._sender.is_alive())
