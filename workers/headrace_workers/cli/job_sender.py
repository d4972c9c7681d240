"""Sender of the jobs of a file. It replaces a producer that failed."""

import contextlib
from collections.abc import Callable, Sequence

from headrace_producers import Producer, TopicMissing
from headrace_schemas.errors import HeadraceError, Unavailable
from headrace_workers.cli.jobfile import JobEntry, JobFile

_FLUSH_SECONDS = 15.0


class Publisher:
    """The publisher of a job file's entries. It makes the producer when it first needs it."""

    def __init__(self, file: JobFile, make: Callable[[], Producer] = Producer.from_env) -> None:
        self._file = file
        self._make = make
        self._producer: Producer | None = None
        self._sent: set[str] = set()

    @property
    def sent(self) -> int:
        """The number of jobs that the broker has confirmed."""
        return len(self._sent)

    def send(self, entries: Sequence[JobEntry], timeout: float = _FLUSH_SECONDS) -> None:
        """Send these and wait until the broker has confirmed them; Unavailable or TopicMissing when it does not."""
        if self._producer is None:
            self._producer = self._make()
        try:
            for entry in entries:
                job, event_id = self._file.read(entry)
                self._producer.submit(job, event_id=event_id)
            self._producer.flush(timeout)
            self._sent.update(entry.job_id for entry in entries)
        except (Unavailable, TopicMissing):
            # A broker that came back may know neither its old topics nor this producer's sequence numbers.
            self._drop()
            raise

    def close(self) -> None:
        """Let go of the broker; what `send` returned from is confirmed already."""
        self._drop()

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(HeadraceError):  # `send` reported the failure
                producer.close(0.5)
