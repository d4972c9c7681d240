"""Records on their way: bounded in bytes, so that a slow broker slows its callers instead of filling memory."""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Condition

from headrace_producers.errors import BufferFull, Failure

MAX_FAILURES = 10_000  # kept by id; beyond that they are only counted


@dataclass(frozen=True, slots=True)
class _Entry:
    job_id: str
    size: int


class PendingRecords:
    """What was handed to the client and is not confirmed yet, and what has failed since someone last asked.

    kafka-python 3 has no memory bound of its own, and its `flush(timeout)` waits that long for each batch.
    Thread-safe.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._changed = Condition()
        # An OrderedDict, because its first key is found in constant time however many before it are gone.
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._bytes = 0
        self._last = 0
        self._failures: list[Failure] = []
        self._failed = 0

    def add(self, job_id: str, size: int, timeout: float) -> int:
        """Take room for a record and return its number; BufferFull when there was none for `timeout` seconds.

        A record larger than the whole bound goes alone.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._fits(size), timeout):
                raise BufferFull(
                    f"{len(self._entries)} records ({self._bytes} bytes) have waited {timeout:g} s for the broker, "
                    f"and the buffer of {self._limit} bytes is full: job {job_id} was not sent; try again later"
                )
            self._last += 1
            self._entries[self._last] = _Entry(job_id, size)
            self._bytes += size
            return self._last

    def done(self, number: int, failure: str | None = None) -> None:
        """The record is confirmed, or failed for the reason given."""
        with self._changed:
            entry = self._entries.pop(number, None)
            if entry is None:
                return
            self._bytes -= entry.size
            if failure is not None:
                self._failed += 1
                if len(self._failures) < MAX_FAILURES:
                    self._failures.append(Failure(entry.job_id, failure))
            self._changed.notify_all()

    def wait(self, timeout: float | None) -> bool:
        """Wait until all that was added before this call is done; False when `timeout` seconds passed first."""
        with self._changed:
            last = self._last
            return self._changed.wait_for(lambda: self._oldest() > last, timeout)

    def abandon(self, reason: str) -> None:
        """Count all that is still on its way as failed."""
        with self._changed:
            for number in tuple(self._entries):
                self.done(number, reason)

    def take_failures(self) -> tuple[list[Failure], int]:
        """The failures since the last call (the first 10,000) and the number of all of them."""
        with self._changed:
            taken = (self._failures, self._failed)
            self._failures, self._failed = [], 0
            return taken

    def __len__(self) -> int:
        return len(self._entries)

    def _fits(self, size: int) -> bool:
        return not self._entries or self._bytes + size <= self._limit

    def _oldest(self) -> int:
        return next(iter(self._entries), self._last + 1)
