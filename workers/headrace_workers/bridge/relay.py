"""Outbox to Kafka: in order, acknowledged by all replicas, and only then forgotten. One bridge at a time does it."""

from typing import Any

from headrace_producers.settings import KafkaSettings
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.ledger.outbox import OutboxRow
from headrace_workers.ports import Clock

DUTY = "relay"
_BATCH = 1_000
_DUTY_LEASE = 5.0  # seconds: so long nothing is published when the bridge that does it was killed
_PUBLISH_SECONDS = 30.0

_PRODUCER = {
    "acks": "all",
    "enable_idempotence": True,
    "linger_ms": 2,
    "batch_size": 256 * 1024,
    "max_request_size": 8 * 1024**2,
    "max_block_ms": 10_000,  # a stop must not wait a minute for a broker that is away
    "reconnect_backoff_max_ms": 2_000,  # its default of 30 s would leave a broker that is back without events
}


class Relay:
    """One producer and the ledger. Belongs to the thread that calls `once`."""

    def __init__(self, *, kafka: KafkaSettings, ledger: Ledger, bridge: str, clock: Clock) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._bridge = bridge
        self._clock = clock
        self._producer: Any = None
        self._held_until = float("-inf")

    def once(self) -> int:
        """Publish the oldest events; how many. 0 also while another bridge has this duty."""
        if not self._on_duty():
            return 0
        rows = self._ledger.outbox(_BATCH)
        if not rows:
            return 0
        self._publish(rows)
        self._ledger.published([row.id for row in rows])
        return len(rows)

    def close(self) -> None:
        """Close the producer."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            producer.close(timeout=5)

    def _on_duty(self) -> bool:
        """Keep the duty, asking the ledger when half of its lease is gone."""
        now = self._clock.monotonic()
        if now < self._held_until - _DUTY_LEASE / 2:
            return True
        if not self._ledger.hold(DUTY, self._bridge, int(_DUTY_LEASE * 1000)):
            self._held_until = float("-inf")
            return False
        self._held_until = now + _DUTY_LEASE
        return True

    def _publish(self, rows: list[OutboxRow]) -> None:
        """Send all and wait for all. When one fails, all stay in the outbox and are sent again: ids stay the same."""
        producer = self._open()
        try:
            futures = [
                producer.send(
                    self._kafka.topic(row.record.topic),
                    key=row.record.key.encode() if row.record.key else None,
                    value=row.record.value,
                    headers=[(name, text.encode()) for name, text in row.record.headers.items()],
                )
                for row in rows
            ]
            producer.flush(timeout=_PUBLISH_SECONDS)
            for future in futures:
                future.get(timeout=_PUBLISH_SECONDS)
        except BaseException:
            self.close()  # what is in its buffer must not be sent after what we send again
            raise

    def _open(self) -> Any:
        if self._producer is None:
            from kafka import KafkaProducer

            self._producer = KafkaProducer(**self._kafka.client_options(), **_PRODUCER)
        return self._producer
