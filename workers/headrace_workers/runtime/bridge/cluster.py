"""Checks that Kafka is the one that the ledger belongs to: its cluster, and the logs of its partitions, by fingerprints
of records.
"""

from collections.abc import Sequence
from hashlib import blake2b
from time import monotonic
from typing import Any

from headrace_producers.admin import cluster_id
from headrace_producers.settings import KafkaSettings
from headrace_schemas.errors import Unavailable
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.ledger import Fact, Ledger
from headrace_workers.core.ledger.positions import Fingerprint, Position, Reread
from headrace_workers.core.outage import KafkaUnavailable
from headrace_workers.runtime.bridge.fetches import Fetches

# Check that a partition's log is the one that was read, by fingerprints of some of its records.
#
# A log that was restored from a backup lacks the last records, and soon has others at their offsets. Nothing else
# tells: the topic is the same, and a consumer goes on after records that nobody has read.

_MOST = 16
_SECONDS = 10.0  # for the record at one offset, or a fetch that says that there is none
_POLL_MS = 500


def fingerprint_of(record: Any) -> Fingerprint:
    """Return the fingerprint of a record as kafka-python gives it."""
    digest = blake2b(digest_size=8)
    for part in (record.key, record.value, *(value for _, value in record.headers or ())):
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    epoch = -1 if record.leader_epoch is None else record.leader_epoch
    return Fingerprint(record.offset, epoch, record.timestamp or 0, digest.hexdigest())


def with_fingerprint(fingerprints: Sequence[Fingerprint], new: Fingerprint) -> tuple[Fingerprint, ...]:
    """Return these fingerprints and a newer one, thinned: the further back, the fewer, 16 at most.

    Of the records between 2ⁿ and 2ⁿ⁺¹ before the newest the oldest fingerprint is kept, so that a log is read again
    from at most a few times further back than it differs.
    """
    oldest: dict[int, Fingerprint] = {}
    for fingerprint in fingerprints:
        oldest.setdefault((new.offset - fingerprint.offset).bit_length(), fingerprint)
    return (*sorted(oldest.values())[-(_MOST - 1) :], new)


def newest_match(consumer: Any, partition: Any, position: Position) -> Position | None:
    """Return the newest position before this one that the log matches, or None if nothing contradicts this one.

    The consumer is for this alone. Records that Kafka has deleted by age cannot be compared, and contradict nothing.
    Raise `KafkaUnavailable` where it does not answer.
    """
    fetches = Fetches(consumer, SystemClock())
    consumer.assign([partition])
    begin = consumer.beginning_offsets([partition])[partition]
    end = consumer.end_offsets([partition])[partition]
    kept = [fingerprint for fingerprint in position.fingerprints if fingerprint.offset >= begin]
    differing: Fingerprint | None = None
    while kept:
        same = _is_there(consumer, fetches, partition, kept[-1], end)
        if same:
            break
        last = kept.pop()
        if same is False:
            differing = differing or last
    if differing is None and (kept or position.next <= end):
        return None
    newest = position.fingerprints[-1] if position.fingerprints else None
    before = differing or newest
    again = Reread(position.next, before.at if before else 0)
    return Position(kept[-1].offset + 1 if kept else begin, tuple(kept), again)


def _is_there(consumer: Any, fetches: Fetches, partition: Any, fingerprint: Fingerprint, end: int) -> bool | None:
    """Return True if the record at the fingerprint's offset is the one that was read; None if that offset has no
    record, though later ones exist.

    The embedded broker reports an end of its log that is too low: only what it fetches says that a record is not there.
    """
    consumer.seek(partition, fingerprint.offset)
    until = monotonic() + _SECONDS
    while monotonic() < until:
        for found in consumer.poll(timeout_ms=_POLL_MS, max_records=1).get(partition, ()):
            if found.offset == fingerprint.offset:
                return fingerprint_of(found) == fingerprint
            # An offset beyond the end leads to the beginning of the log.
            return None if found.offset > fingerprint.offset else False
        if fingerprint.offset < end <= consumer.position(partition):
            return None
        fetch = fetches.last.get(partition)
        if fetch is not None and fetch.failure is None and 0 <= fetch.end <= fingerprint.offset:
            return False
    raise KafkaUnavailable(f"{partition.topic}-{partition.partition} cannot be read at offset {fingerprint.offset}")


class Cluster:
    """Identity of the Kafka cluster, asked once. Thread-safe."""

    def __init__(self, kafka: KafkaSettings, ledger: Ledger, *, durable: bool) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._known = not durable  # a broker in memory is another cluster each time

    def check(self, seconds: float = 10.0) -> None:
        """Raise ConfigurationError where the ledger belongs to another cluster, and KafkaUnavailable while Kafka does
        not answer in so many seconds. A ledger that states no cluster belongs to this one from here on.
        """
        if self._known:
            return
        try:
            text = cluster_id(self._kafka, timeout=seconds)
        except Unavailable as error:
            raise KafkaUnavailable(str(error)) from error
        if text:
            self._ledger.deployment.state(Fact.CLUSTER, text)
        self._known = True
