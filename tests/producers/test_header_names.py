"""Header names that are not UTF-8, on both brokers."""

from types import SimpleNamespace

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords
from tests.services.eventually import eventually
from tests.services.header_names import OddName

from headrace_producers.header_names import _SAMPLE, read_any_header_name
from headrace_schemas import Topic
from headrace_schemas.errors import ConfigurationError

NAMES = {
    b"plain": "plain",
    b"\xff\xfe": r"\xff\xfe",
    "größe".encode(): "größe",
    b"ce_id\xc3": r"ce_id\xc3",
    b"\xed\xa0\x80": r"\xed\xa0\x80",  # a surrogate
    b"a\x00b": "a\x00b",
    b"": "",
    b"last": "last",
}


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_batch_with_odd_names_is_read_whole(kafka, compression):
    """Every record comes once, in order, with key, value and all headers; what is not UTF-8 comes escaped."""
    producer = KafkaProducer(**kafka.client_options(), linger_ms=1_000, compression_type=compression)  # one batch
    topic = kafka.topic(Topic.RESULTS)
    for number, name in enumerate(NAMES):
        headers = [("before", b"1"), (OddName(name), b"\xff"), (OddName(name), b""), ("after", b"2")]
        producer.send(topic, key=b"k", value=b"%d" % number, headers=headers, partition=0)
    producer.flush()
    producer.close()
    consumer = KafkaConsumer(**kafka.client_options(), enable_auto_commit=False)
    read_any_header_name(consumer)
    consumer.assign([TopicPartition(topic, 0)])
    consumer.seek(TopicPartition(topic, 0), 0)
    records = []

    def all_read():
        for batch in consumer.poll(timeout_ms=200, max_records=3).values():
            records.extend(batch)
        return len(records) >= len(NAMES)

    eventually(all_read)
    consumer.close()
    assert [(r.offset, r.key, r.value) for r in records] == [(n, b"k", b"%d" % n) for n in range(len(NAMES))]
    assert [r.headers for r in records] == [
        [("before", b"1"), (name, b"\xff"), (name, b""), ("after", b"2")] for name in NAMES.values()
    ]


def test_other_consumers_of_the_process_stay_as_they_are():
    """A service's own consumers are left alone. Once this fails, the library reads such names and needs no mending."""
    changed = SimpleNamespace(_fetcher=Fetcher.__new__(Fetcher))
    read_any_header_name(changed)
    with pytest.raises(CorruptRecordError):
        Fetcher.__new__(Fetcher).PartitionRecords(0, TopicPartition("t", 0), MemoryRecords(_SAMPLE)).take()


@pytest.mark.parametrize(
    "consumer",
    [SimpleNamespace(), SimpleNamespace(_fetcher=None), SimpleNamespace(_fetcher=SimpleNamespace())],
    ids=["no fetcher", "nothing to change", "another fetcher"],
)
def test_a_library_built_otherwise_is_told_at_once(consumer):
    """Better no consumer than one that gets stuck one day."""
    with pytest.raises(ConfigurationError, match=r"kafka-python [\d.]+ is not built as headrace expects"):
        read_any_header_name(consumer)


def test_a_library_that_reads_batches_otherwise_is_told_at_once(monkeypatch):
    """The sample is read through the library's own code, so that a change inside it shows."""
    monkeypatch.setattr(MemoryRecords, "next_batch", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"a sample is read as \[\]"):
        read_any_header_name(SimpleNamespace(_fetcher=Fetcher.__new__(Fetcher)))
