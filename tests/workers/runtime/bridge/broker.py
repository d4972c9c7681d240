"""Writing to a broker with kafka-python alone, and asking how far a group is."""

from collections.abc import Iterable

from headrace_producers.settings import KafkaSettings
from headrace_schemas import Topic
from headrace_workers.core.ledger.dead_letters import Record


def write(kafka: KafkaSettings, records: Iterable[Record]) -> None:
    """Put records on their topics, each into its partition."""
    from kafka import KafkaProducer

    # It lingers so that what is small goes as one batch; the flush ends the wait.
    producer = KafkaProducer(**kafka.client_options(), acks="all", max_request_size=20_000_000, linger_ms=1_000)
    futures = [
        producer.send(
            kafka.topic(r.topic),
            key=b"k" if r.value is None else r.key,  # the client wants one of both
            value=r.value,
            headers=list(r.headers),
            partition=r.partition,
        )
        for r in records
    ]
    producer.flush(30)
    for future in futures:
        future.get(120)
    producer.close()


def committed(kafka: KafkaSettings, group: str, topic: Topic) -> int:
    """How many records of a topic a group is done with."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(**kafka.client_options(), group_id=group, enable_auto_commit=False)
    name = kafka.topic(topic)
    numbers = consumer.partitions_for_topic(name) or ()
    total = sum(consumer.committed(TopicPartition(name, number)) or 0 for number in numbers)
    consumer.close(autocommit=False)
    return total
