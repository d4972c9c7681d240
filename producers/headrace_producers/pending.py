"""Records in flight: bounded in bytes, so that a slow broker slows its callers instead of filling memory, and in time,
so that the outcome of each is reported even if its client fails.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from threading import Condition, RLock
from time import monotonic

from headrace_producers.errors import CLOSED, BufferFull, Failure, ProducerClosed, RecordRefused
from headrace_producers.sink import Record
from headrace_schemas import Topic

MAX_FAILURES = 10_000  # kept by id; beyond that they are only counted
_CARRIED_AT_ONCE = 500
_LONGEST_WAIT = 3_600.0  # seconds: far below what the platform's clocks can wait


@dataclass(slots=True)
class _Entry:
    record: Record
    size: int
    due: float
    carried: bool = False  # the client that is in use has it


@dataclass(frozen=True, slots=True)
class Settled:
    """A record that was confirmed, or failed for the reason given. `refused` if the broker refused it."""

    number: int
    job_id: str
    failure: str | None
    refused: RecordRefused | None = None


class PendingRecords:
    """Records that were sent and are not confirmed yet, in order, and the failures since the last call of
    `take_failures`. Thread-safe.

    Four kinds of threads meet here. Callers `add` and `wait`; a carrier takes what no client has yet; clients say what
    became of a record; a teller takes what is `settled`, tells it, and has it forgotten. A record is held, and counts,
    until it was told. `lifetime`: seconds after which a record has failed. `patience`: seconds in which a client that
    has records must confirm one, or is broken; it may take twice as long until that is seen.
    """

    def __init__(
        self, limit_bytes: int, lifetime: float, patience: float = _LONGEST_WAIT, now: Callable[[], float] = monotonic
    ) -> None:
        self._limit = limit_bytes
        self._lifetime = lifetime
        self._patience = patience
        self._now = now
        # Reentrant: a sink that nobody holds any more may be collected, and so finished, anywhere.
        lock = RLock()
        self._to_carry, self._to_tell, self._changed = Condition(lock), Condition(lock), Condition(lock)
        self._lock = lock
        # An OrderedDict, because its first key is found in constant time however many before it are gone.
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._uncarried: dict[Topic, deque[int]] = {}
        self._outcomes: dict[int, RecordRefused | None] = {}
        self._bytes = 0
        self._carried = 0
        self._progress = 0.0  # when the client in use confirmed something, or got its first record
        self._last = 0
        self._closed = False
        self._abandoned: str | None = None
        self._broken = False
        self._trouble: str | None = None
        self._failures: list[Failure] = []
        self._failed = 0

    # Callers

    def add(self, record: Record, size: int, timeout: float) -> int:
        """Take room for a record and return its number; BufferFull when there was none for `timeout` seconds.

        A record larger than the whole bound goes alone. ProducerClosed after `close`.
        """
        with self._lock:
            if not self._changed.wait_for(lambda: self._closed or self._fits(size), timeout):
                raise BufferFull(
                    f"{len(self._entries)} records ({self._bytes} bytes) have waited {timeout:g} s for the broker, "
                    f"and the buffer of {self._limit} bytes is full: job {record.job_id} was not sent; "
                    f"try again later{self._because()}"
                )
            if self._closed:
                raise ProducerClosed(CLOSED)
            self._last += 1
            self._entries[self._last] = _Entry(record, size, self._now() + self._lifetime)
            self._uncarried.setdefault(record.topic, deque()).append(self._last)
            self._bytes += size
            self._to_carry.notify_all()
            if len(self._entries) == 1:
                self._to_tell.notify_all()  # it now has something whose time will be up
            return self._last

    def wait(self, timeout: float | None) -> bool:
        """Wait until all records that were added before this call are reported; return False when `timeout` seconds
        passed first.
        """
        with self._lock:
            last = self._last
            return self._changed.wait_for(lambda: self._oldest() > last, timeout)

    def take_failures(self) -> tuple[list[Failure], int]:
        """Return the failures since the last call (the first 10,000) and the number of all of them."""
        with self._lock:
            taken = (self._failures, self._failed)
            self._failures, self._failed = [], 0
            return taken

    def close(self) -> bool:
        """Take no more records; present ones go on. Return True if this was the first call."""
        with self._lock:
            first, self._closed = not self._closed, True
            self._wake_all()
            return first

    def abandon(self, reason: str) -> None:
        """Count all that is still on its way as failed."""
        with self._lock:
            self._abandoned = reason
            self._wake_all()

    @property
    def closed(self) -> bool:
        """Return True if it takes no more."""
        return self._closed

    @property
    def trouble(self) -> str | None:
        """Return the client's last error, unless something was confirmed since."""
        return self._trouble

    def __len__(self) -> int:
        return len(self._entries)

    # The carrier

    @property
    def ended(self) -> bool:
        """Return True if nothing is here, and nothing will come."""
        with self._lock:
            return self._closed and not self._entries

    @property
    def broken(self) -> bool:
        """Return True if the client in use must be replaced."""
        return self._broken

    def next_topic(self, held: Collection[Topic], timeout: float | None) -> Topic | None:
        """Return the topic of the oldest record that no client has, those of `held` topics aside.

        Waits for one; None when `timeout` seconds passed first, the client is `broken`, or all has `ended`.
        """
        with self._lock:
            self._to_carry.wait_for(lambda: self._broken or self.ended or self._oldest_topic(held), timeout)
            return None if self._broken else self._oldest_topic(held)

    def take(self, topic: Topic) -> list[tuple[int, Record]]:
        """Return the oldest records of a topic that no client has, some hundreds at most: the client gets them now."""
        with self._lock:
            numbers = self._uncarried.get(topic, deque())
            taken: list[tuple[int, Record]] = []
            while numbers and len(taken) < _CARRIED_AT_ONCE:
                number = numbers.popleft()
                entry = self._entries.get(number)
                if entry is not None and number not in self._outcomes:
                    if not self._carried:
                        self._progress = self._now()
                    self._carried += 1
                    entry.carried = True
                    taken.append((number, entry.record))
            return taken

    def rewind(self) -> None:
        """Start again with a new client: it has no records yet, and gets all that are not confirmed, in order."""
        with self._lock:
            self._broken = False
            self._carried = 0
            self._uncarried = {}
            for number, entry in self._entries.items():
                entry.carried = False
                self._uncarried.setdefault(entry.record.topic, deque()).append(number)

    def pause(self, seconds: float) -> None:
        """Wait that long, or until all has ended."""
        with self._lock:
            self._to_carry.wait_for(lambda: self.ended, seconds)

    # Clients

    def confirmed(self, number: int) -> None:
        """Note that the broker has the record."""
        with self._lock:
            self._trouble = None
            self._progress = self._now()
            self._outcome(number, None)

    def refused(self, number: int, error: RecordRefused) -> None:
        """Note that the broker will never take this record."""
        with self._lock:
            self._outcome(number, error)

    def note(self, trouble: str) -> None:
        """Note why nothing is confirmed at the moment, for the messages of failures."""
        with self._lock:
            self._trouble = trouble

    def broke(self) -> None:
        """Note that the client in use delivers nothing any more."""
        with self._lock:
            self._broken = True
            self._to_carry.notify_all()

    # The teller

    def settled(self) -> list[Settled]:
        """Wait for records whose outcome is known or whose time is up, and return them to be reported; [] when all has
        ended.
        """
        with self._lock:
            while not (found := self._find_settled()):
                if self.ended:
                    return []
                self._to_tell.wait(self._until_due())
            return found

    def forget(self, told: Iterable[Settled]) -> None:
        """Forget these records, which were reported: free their room, and wake the callers that wait for them."""
        with self._lock:
            for settled in told:
                entry = self._entries.pop(settled.number)
                self._bytes -= entry.size
                self._carried -= entry.carried
                if settled.failure is not None:
                    self._failed += 1
                    if len(self._failures) < MAX_FAILURES:
                        self._failures.append(Failure(settled.job_id, settled.failure))
            for numbers in self._uncarried.values():
                while numbers and numbers[0] not in self._entries:
                    numbers.popleft()
            self._changed.notify_all()
            if self.ended:
                self._wake_all()

    def _find_settled(self) -> list[Settled]:
        outcomes, self._outcomes = self._outcomes, {}
        found = {n: _settled(n, self._entries[n].record.job_id, refused) for n, refused in outcomes.items()}
        now = self._now()
        for number, entry in self._entries.items():
            if self._abandoned is None and entry.due > now:
                break
            if number in found:
                continue
            reason = self._abandoned or f"not confirmed within {self._lifetime:g} s"
            found[number] = Settled(number, entry.record.job_id, reason + self._because())
            if entry.carried:
                # Only a client that is gone holds no memory for it. All others are younger: they are sent again.
                self.broke()
        if self._carried and now - self._progress >= self._patience:
            self.broke()
        return list(found.values())

    def _outcome(self, number: int, refused: RecordRefused | None) -> None:
        # A client that was replaced may still tell of what the next one has settled.
        if number in self._entries and number not in self._outcomes:
            self._outcomes[number] = refused
            if len(self._outcomes) == 1:
                self._to_tell.notify_all()

    def _oldest_topic(self, held: Collection[Topic]) -> Topic | None:
        heads = [(numbers[0], topic) for topic, numbers in self._uncarried.items() if numbers and topic not in held]
        return min(heads)[1] if heads else None

    def _until_due(self) -> float | None:
        if not self._entries:
            return None
        first = self._entries[self._oldest()]
        return min(_LONGEST_WAIT, self._patience, max(0.0, first.due - self._now()))

    def _because(self) -> str:
        return f" ({self._trouble})" if self._trouble else ""

    def _fits(self, size: int) -> bool:
        return not self._entries or self._bytes + size <= self._limit

    def _oldest(self) -> int:
        return next(iter(self._entries), self._last + 1)

    def _wake_all(self) -> None:
        for condition in (self._to_carry, self._to_tell, self._changed):
            condition.notify_all()


def _settled(number: int, job_id: str, refused: RecordRefused | None) -> Settled:
    return Settled(number, job_id, None if refused is None else str(refused), refused)
