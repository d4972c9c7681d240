"""What lies on topics, read with kafka-python."""

from collections.abc import Iterable
from typing import Any

from headrace_producers.settings import KafkaSettings
from headrace_producers.topic_end import assign_at_end
from headrace_schemas import Topic


def read(kafka: KafkaSettings, topics: Iterable[Topic]) -> list[Any]:
    """All that is on these topics now, in order per partition."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(**kafka.client_options(), enable_auto_commit=False)
    names = [kafka.topic(topic) for topic in topics]
    partitions = [TopicPartition(name, number) for name in names for number in consumer.partitions_for_topic(name)]
    ends = assign_at_end(consumer, partitions, timeout=60.0)
    consumer.seek_to_beginning(*partitions)
    found: list[Any] = []
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for batch in consumer.poll(timeout_ms=200).values():
            found += batch
    consumer.close()
    return found
