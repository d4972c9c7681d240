"""State of a consumer's last fetch of each partition, so that one that fails is named and does not hold up others.

kafka-python raises for one partition what ends the poll of all, and passes over other errors in silence. So each answer
of the one consumer that is given is looked at on its way.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from kafka.errors import for_code

from headrace_producers.kafka_internals import follow_fetches
from headrace_producers.words import words
from headrace_workers.core.clock import Clock

_RESTS = 2.0  # seconds that a partition is left alone after a fetch that raised: brokers answer such at once


@dataclass(slots=True)
class Fetch:
    """The last of a partition. `since`: when it began to be as it is (our clock). Offsets: -1 when not known."""

    offset: int
    end: int  # of the log
    stable: int  # of what is decided: a transaction is open from here on
    failure: str | None
    since: float


class Fetches:
    """Follower of a KafkaConsumer's fetches. Belongs to the consumer's thread."""

    def __init__(self, consumer: Any, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[Any, Fetch] = {}
        self._rests: dict[Any, float] = {}
        self._answered_at = self._polls_since = clock.monotonic()
        self._longest = 0.0
        follow_fetches(consumer, parse=self._parsed, handle=self._answered)

    @property
    def last(self) -> Mapping[Any, Fetch]:
        """Return the last fetch by partition."""
        return self._last

    def silence(self, asked: bool) -> float:
        """Return the seconds since a broker last answered a fetch, even with no records; 0 when none is `asked`."""
        now = self._clock.monotonic()
        if not asked:
            self._answered_at = now
        return now - self._answered_at

    def polls(self) -> None:
        """Note that a poll begins after a pause, which was no silence of the broker."""
        self._polls_since = self._clock.monotonic()

    def interruption(self) -> float:
        """Return the longest silence, in seconds, since the last call, that an answer ended while we polled."""
        longest, self._longest = self._longest, 0.0
        return longest

    def resting(self) -> set[Any]:
        """Return the partitions to be left alone for a moment."""
        now = self._clock.monotonic()
        self._rests = {partition: until for partition, until in self._rests.items() if until > now}
        return set(self._rests)

    def _answered(self, handle: Callable[..., Any], response: tuple[Any, ...]) -> Any:
        now = self._clock.monotonic()
        self._longest = max(self._longest, now - max(self._answered_at, self._polls_since))
        self._answered_at = now
        return handle(*response)

    def _parsed(self, parse: Callable[[Any], Any], completed: Any) -> Any:
        """Note what the library raises for one partition, and let the others go on."""
        partition, data = completed.topic_partition, completed.partition_data
        failure = None if data.error_code == 0 else words(for_code(data.error_code)())
        try:
            return parse(completed)
        except Exception as error:
            failure = words(error)
            self._rests[partition] = self._clock.monotonic() + _RESTS
            return None
        finally:
            fetch = Fetch(
                completed.fetched_offset, data.high_watermark, data.last_stable_offset, failure, self._clock.monotonic()
            )
            before = self._last.get(partition)
            if before and before.offset == fetch.offset and (before.failure is None) == (failure is None):
                fetch.since = before.since
            self._last[partition] = fetch


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
