"""End offsets of topics, asked in a way that every broker answers correctly."""

from collections.abc import Collection
from contextlib import suppress
from time import monotonic
from typing import Any


def assign_at_end(consumer: Any, partitions: Collection[Any], *, timeout: float = 10.0) -> dict[Any, int]:
    """Give a fresh KafkaConsumer these partitions, its position after their last records; returns the positions.

    The consumer then reads the records that are published after this returns, and none from before. Raises
    KafkaTimeoutError after `timeout` seconds, and kafka-python's other errors.
    """
    # `end_offsets` alone will not do: the embedded broker answers with the end of the last batch's first record. What a
    # fetch returns with the records is right everywhere, and where there is a record a fetch is answered at once.
    consumer.assign(partitions)
    begins = consumer.beginning_offsets(partitions, timeout_ms=int(timeout * 1000))
    ends: dict[Any, int] = consumer.end_offsets(partitions, timeout_ms=int(timeout * 1000))
    filled = {partition for partition in partitions if begins[partition] < ends[partition]}
    for partition in partitions:
        consumer.seek(partition, ends[partition] - (partition in filled))
    ends |= _fetched_ends(consumer, filled, monotonic() + timeout)
    for partition, end in ends.items():
        consumer.seek(partition, end)
    return ends


def begin_group_at_end(consumer: Any, partitions: Collection[Any], *, timeout: float = 10.0) -> None:
    """Note the ends of these partitions as the position of the consumer's group, where it has none yet.

    For a fresh KafkaConsumer that will subscribe. Left to itself, a new group begins where the topics end when it has
    formed, seconds later. Raises as `assign_at_end` does.
    """
    from kafka.errors import CommitFailedError, UnknownMemberIdError
    from kafka.structs import OffsetAndMetadata

    unknown = [partition for partition in partitions if consumer.committed(partition) is None]
    if not unknown:
        return
    ends = assign_at_end(consumer, unknown, timeout=timeout)
    with suppress(CommitFailedError, UnknownMemberIdError):  # the group is at work: its position is its members' own
        consumer.commit({partition: OffsetAndMetadata(end) for partition, end in ends.items()})
    consumer.unsubscribe()


def _fetched_ends(consumer: Any, partitions: Collection[Any], until: float) -> dict[Any, int]:
    from kafka.errors import KafkaTimeoutError

    ends: dict[Any, int] = {}
    while missing := [partition for partition in partitions if partition not in ends]:
        if monotonic() > until:
            names = ", ".join(f"{partition.topic}-{partition.partition}" for partition in missing)
            raise KafkaTimeoutError(f"the broker did not tell in time where {names} ends")
        consumer.poll(timeout_ms=100)  # its records are of no interest
        for partition in missing:
            end = consumer.highwater(partition)
            if end is not None:
                ends[partition] = end
    return ends
