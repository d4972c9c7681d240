"""The port between jobs and a transport: the records that a producer sends, and their sink."""

from dataclasses import dataclass
from typing import Protocol

from headrace_schemas import Topic
from headrace_schemas.envelope import Headers


@dataclass(frozen=True, slots=True)
class Record:
    """A record that is ready to be sent."""

    topic: Topic
    key: bytes  # the job's id: all records of one job go to one partition of a topic, in order
    headers: Headers
    value: bytes
    job_id: str


class RecordSink(Protocol):
    """Destination of records. Thread-safe."""

    def send(self, record: Record) -> None:
        """Take one record, in order; it may be on its way still when this returns."""

    def flush(self, timeout: float) -> None:
        """Wait for all that was sent before; DeliveryFailed for what was not confirmed."""

    def close(self, timeout: float) -> None:
        """Flush and let go. Closing twice does nothing."""
