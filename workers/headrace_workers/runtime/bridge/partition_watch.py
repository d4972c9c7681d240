"""Faults of the partitions that a bridge reads, in words. Only faults that last are reported."""

from collections.abc import Collection, Mapping
from typing import Any

from headrace_workers.core.ports import Clock
from headrace_workers.runtime.bridge.fetches import Fetch

LASTS = 30.0  # seconds before a fault is reported


class PartitionWatch:
    """Watch over a consumer's partitions. Belongs to the consumer's thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def look(self, consumer: Any, fetches: Mapping[Any, Fetch], paused: Collection[Any]) -> dict[str, str]:
        """Return the faults, by partition. `paused`: left alone on purpose."""
        reasons = {}
        for partition in sorted(consumer.assignment()):
            fetch = fetches.get(partition)
            if fetch is None or self._clock.monotonic() - fetch.since < LASTS:
                continue
            if reason := _wrong(fetch, consumer, partition, paused):
                reasons[f"{partition.topic}-{partition.partition}"] = reason
        return reasons


def _wrong(fetch: Fetch, consumer: Any, partition: Any, paused: Collection[Any]) -> str | None:
    if fetch.failure is not None:
        return f"cannot be read at offset {fetch.offset}: {fetch.failure}; the other partitions go on"
    if partition in paused or fetch.end <= fetch.offset:
        return None
    # Brokers do not repeat what did not change, so the fetch may be older than what was read since.
    position = consumer.position(partition, timeout_ms=0)
    if position is None or position > fetch.offset or position >= fetch.end:
        return None
    if 0 <= fetch.stable <= position:
        return (
            f"records from offset {position} on wait for a transaction that its producer has neither committed nor "
            "aborted: end it, or wait for its time limit (transaction.timeout.ms)"
        )
    return f"does not go on at offset {position}, though there are records up to {fetch.end}"
