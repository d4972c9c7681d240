"""The in-memory producer for tests, yours too: it keeps the records that it would have sent."""

from collections.abc import Callable
from datetime import UTC, datetime
from threading import Lock

from headrace_producers.errors import CLOSED, ProducerClosed
from headrace_producers.producer import Producer
from headrace_producers.settings import ProducerSettings
from headrace_producers.sink import Record
from headrace_schemas import CancelJob
from headrace_schemas.codec import decode
from headrace_schemas.event_types import Event
from headrace_schemas.job import AnyJob
from headrace_schemas.review import Review


class MemorySink:
    """Sink that keeps records in the order of `send`."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.closed = False
        self._lock = Lock()

    def send(self, record: Record) -> None:
        """Keep it; ProducerClosed after `close`."""
        with self._lock:
            if self.closed:
                raise ProducerClosed(CLOSED)
            self.records.append(record)

    def flush(self, timeout: float) -> None:
        """Return at once: no record is ever in flight."""

    def close(self, timeout: float) -> None:
        """Refuse what comes after."""
        self.closed = True


class MemoryProducer(Producer):
    """`Producer` that keeps its records: same checks, same ids, same bytes, no broker."""

    def __init__(
        self,
        settings: ProducerSettings | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._memory = MemorySink()
        super().__init__(self._memory, settings, now=now)

    @property
    def records(self) -> tuple[Record, ...]:
        """Return all records, in the order in which they were sent."""
        return tuple(self._memory.records)

    @property
    def events(self) -> list[Event]:
        """Return the events in the records, read back from their bytes."""
        return [decode(record.headers, record.value)[1] for record in self.records]

    @property
    def jobs(self) -> list[tuple[str, AnyJob]]:
        """Return id and job of each job that was sent, in order; a job that was sent twice is there twice."""
        pairs = zip(self.records, self.events, strict=True)
        return [(record.job_id, event) for record, event in pairs if isinstance(event, AnyJob)]

    @property
    def reviews(self) -> list[Review]:
        """Return the labels that were sent, in order."""
        return [event for event in self.events if isinstance(event, Review)]

    @property
    def cancelled(self) -> list[str]:
        """Return the ids of the jobs that were asked to be cancelled."""
        return [event.job_id for event in self.events if isinstance(event, CancelJob)]
