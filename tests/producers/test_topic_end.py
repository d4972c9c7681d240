from types import SimpleNamespace

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError
from tests.services.eventually import eventually

from headrace_producers.topic_end import assign_at_end
from headrace_schemas import Topic

BATCHES = {0: (1, 3, 5), 1: (1,), 2: (), 3: (400,)}  # how many records each batch of a partition has


@pytest.fixture
def publish(kafka):
    """Puts so many records on a partition of `results`, in one batch."""
    producer = KafkaProducer(**kafka.client_options(), linger_ms=1_000)  # the flush ends the wait

    def send(partition, count):
        for _ in range(count):
            producer.send(kafka.topic(Topic.RESULTS), value=b"v", partition=partition)
        producer.flush()

    yield send
    producer.close()


@pytest.fixture
def consumer(kafka):
    consumer = KafkaConsumer(**kafka.client_options(), enable_auto_commit=False)
    yield consumer
    consumer.close()


@pytest.mark.parametrize("partitions", [4])
def test_nothing_from_before_is_read_and_everything_after_is(kafka, publish, consumer):
    for partition, sizes in BATCHES.items():
        for size in sizes:
            publish(partition, size)
    partitions = [TopicPartition(kafka.topic(Topic.RESULTS), number) for number in BATCHES]
    ends = assign_at_end(consumer, partitions)
    assert ends == {partition: sum(BATCHES[partition.partition]) for partition in partitions}
    for partition in partitions:
        publish(partition.partition, 2)
    read = []

    def all_read():
        read.extend(record for batch in consumer.poll(timeout_ms=200).values() for record in batch)
        return len(read) >= 2 * len(partitions)

    eventually(all_read)
    expected = [(partition.partition, end + n) for partition, end in ends.items() for n in (0, 1)]
    assert sorted((record.partition, record.offset) for record in read) == sorted(expected)


@pytest.mark.parametrize("partitions", [4])
def test_empty_topics_end_where_they_begin(kafka, consumer):
    partitions = [TopicPartition(kafka.topic(Topic.DEAD), number) for number in range(4)]
    assert assign_at_end(consumer, partitions) == dict.fromkeys(partitions, 0)


def test_a_broker_that_does_not_tell_is_an_error():
    """A fetch that never comes does not keep the caller for ever."""
    partition = TopicPartition("t", 0)
    silent = SimpleNamespace(
        assign=lambda _: None,
        beginning_offsets=lambda _, timeout_ms: {partition: 0},
        end_offsets=lambda _, timeout_ms: {partition: 1},
        seek=lambda *_: None,
        poll=lambda timeout_ms: {},
        highwater=lambda _: None,
    )
    with pytest.raises(KafkaTimeoutError, match="where t-0 ends"):
        assign_at_end(silent, [partition], timeout=0.01)
