"""Counting how jobs end, at as little cost as can be: it shares the machine with what it measures."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from headrace_producers import KafkaSettings
from headrace_producers.attentive import attend
from headrace_producers.topic_end import assign_at_end
from headrace_schemas import HeadraceError, Topic
from headrace_schemas.codec import decode

_STALL_SECONDS = 120.0
_SAY_EVERY = 5.0

Say = Callable[[str], None]


class Stalled(HeadraceError):
    """No job has ended for a long time, or one ended in `dead`: the bench's figures would mean nothing."""


@dataclass(slots=True)
class Ended:
    """Jobs that ended: when the last did, on the monotonic clock, and their results' bytes where they were kept."""

    last_at: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)


class Ends:
    """A consumer of `results` and `dead` that begins where the topics end when it is made."""

    def __init__(self, kafka: KafkaSettings) -> None:
        from kafka import KafkaConsumer, TopicPartition

        self._dead = kafka.topic(Topic.DEAD)
        self._client: Any = KafkaConsumer(
            **kafka.client_options(),
            enable_auto_commit=False,
            max_poll_records=5_000,
            fetch_min_bytes=1,
        )
        attend(self._client, kafka)
        names = (kafka.topic(Topic.RESULTS), self._dead)
        parts = [TopicPartition(name, part) for name in names for part in self._client.partitions_for_topic(name) or ()]
        assign_at_end(self._client, parts)

    def wait(self, job_ids: Collection[str], say: Say, *, keep: bool = False) -> Ended:
        """Read until all of these jobs have ended. Stalled when nothing moves, or anything is a dead letter.

        With `keep` the results are decoded and given back by job.
        """
        waiting = set(job_ids)
        ended, total, begun = Ended(time.monotonic()), len(waiting), time.monotonic()
        said = begun
        while waiting:
            # It comes back as soon as there is something: a long wait costs the machine least.
            for records in self._client.poll(timeout_ms=1_000).values():
                for record in records:
                    job_id = record.key.decode() if record.key else ""
                    if record.topic == self._dead:
                        raise Stalled(f"job {job_id or 'unknown'} ended in `dead`: {_reason(record)}")
                    if job_id in waiting:
                        waiting.discard(job_id)
                        ended.last_at = time.monotonic()
                        if keep:
                            ended.values[job_id] = decode(record.headers, record.value)[1]
            now = time.monotonic()
            if now - ended.last_at > _STALL_SECONDS:
                raise Stalled(f"no job has ended for {_STALL_SECONDS:g} s; {len(waiting)} of {total} are open")
            if now - said > _SAY_EVERY:
                said, done = now, total - len(waiting)
                say(f"{done:,} of {total:,} ended, {done / (now - begun):,.0f}/s")
        return ended

    def close(self) -> None:
        """Disconnect."""
        self._client.close(autocommit=False)

    def __enter__(self) -> "Ends":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _reason(record: Any) -> str:
    _, event = decode(record.headers, record.value)
    return str(getattr(event, "reason", ""))
