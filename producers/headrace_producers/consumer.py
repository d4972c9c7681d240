"""Read the ends of jobs: results, cancellations and dead letters, each once."""

import os
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeGuard

from headrace_producers.marks import Marks
from headrace_producers.settings import KafkaSettings
from headrace_producers.unread import Item, Place, Unread
from headrace_schemas.codec import decode
from headrace_schemas.envelope import Envelope
from headrace_schemas.errors import ConfigurationError, HeadraceError, InvalidRecord, Unavailable
from headrace_schemas.event_types import Event
from headrace_schemas.events import DeadLetter, JobCancelled, Result

if TYPE_CHECKING:
    from headrace_producers.end_topics import EndTopics

End = Result | JobCancelled | DeadLetter

_POLL_SECONDS = 0.5
COMMIT_SECONDS = 5.0
_KEPT_BYTES = 32 * 1024**2  # of records that came while others were waited for
_REMEMBERED = 65_536  # event ids; a second copy that comes later than that many others is read twice


class SeenIds:
    """The last event ids, a bounded number."""

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._ids: OrderedDict[str, None] = OrderedDict()

    def is_new(self, event_id: str) -> bool:
        """Return True if this id comes for the first time; it is remembered."""
        if event_id in self._ids:
            return False
        self._ids[event_id] = None
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)
        return True


@dataclass(frozen=True, slots=True)
class Received:
    """The end of a job with its envelope, or the refusal of a record that made no job."""

    envelope: Envelope
    event: End

    @property
    def job_id(self) -> str | None:
        """Return the job that ended; None for a record that was refused, which ends no job."""
        return self.event.job_id

    @property
    def refers_to(self) -> str | None:
        """Return the id that the job of a refused record has or would have had; None if a job ended."""
        return self.event.refers_to if isinstance(self.event, DeadLetter) else None

    @property
    def waited_for(self) -> str | None:
        """Return the id under which its sender waits: `job_id`, else `refers_to`; None for a refused cancellation."""
        return self.event.concerns if isinstance(self.event, DeadLetter) else self.job_id


class ResultReader:
    """Reader of `results` and `dead` from a position that `open` fixes.

    Open it before you publish, iterate afterwards, and no answer is missed, however fast it comes. Each event is handed
    out once by a reader, whichever call asks for it: an iteration may be left at any time, and the next goes on.

    Without a `group` every reader sees everything. With one, readers share the records; what was handed out is done
    with when the next is asked for, and is then noted for the group, in the next lull and by `close`: a crash shows
    some again. Where the broker's groups are not used (`KafkaSettings.groups`: the embedded one in memory), a group has
    one reader at a time.

    Only what is committed is read, where producers use transactions. A reader belongs to one thread. `unreadable`
    counts records that are not what the contract says; they are passed over.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        from_beginning: bool = False,
        group: str | None = None,
        connect_timeout: float = 10.0,
        kept_bytes: int = _KEPT_BYTES,
    ) -> None:
        if group is not None and not group.strip():
            raise ConfigurationError("group is empty: name it, or leave it out to read everything")
        if kept_bytes < 0:
            raise ConfigurationError(f"kept_bytes is {kept_bytes}; it must be at least 0")
        self._settings = settings
        self._connect_timeout = connect_timeout
        self._from_beginning = from_beginning
        self._group = group
        self._topics: EndTopics | None = None
        self._pid = os.getpid()
        self._seen = SeenIds()
        self._unread: Unread[Received | None] = Unread(kept_bytes)
        self._marks = Marks()
        self._looked_at: dict[Place, int] = {}  # the last offset of each partition that counted as unreadable
        self.unreadable = 0

    def open(self) -> Self:
        """Connect and fix the position: the end of the topics, or their beginning. Opening twice does nothing.

        With a group the position is the group's own; a new group begins where this reader would.
        Raises Unavailable without a broker, and for a group that has its one reader; TopicMissing without topics.
        """
        self._connected()
        return self

    def read(self, *, job_ids: Collection[str] | None = None, timeout: float | None = None) -> Iterator[Received]:
        """Return the ends of jobs as they come, each event once.

        With `job_ids` only what is `waited_for` under these, until there was something of each: its end, or the refusal
        of a record under that id, after which nothing more need come. Ends of other jobs that come meanwhile are kept
        for later calls, up to `kept_bytes`; beyond that they are fetched again when a later call asks.

        Stops after `timeout` seconds, counted from the first step of the iteration; what is missing then is for the
        caller to see. Raises ConfigurationError for `job_ids` with a group, Unavailable where topics cannot be read.
        """
        if job_ids is not None and self._group is not None:
            raise ConfigurationError(
                "give either group or job_ids: a group's other readers would get some of the answers"
            )
        return self._read(None if job_ids is None else _ids(job_ids), timeout)

    def _read(self, waiting: set[str] | None, timeout: float | None) -> Iterator[Received]:
        until = None if timeout is None else monotonic() + timeout
        topics = self._connected()
        topics.seek(self._unread.take_left())
        number = 0
        # Each step asks for more; a reader that was closed meanwhile has no more.
        while (waiting is None or waiting) and self._topics is topics:
            self._check_process()
            self._marks.finish()
            found = self._unread.find(lambda received: waiting is None or _waited_for(received) in waiting, number)
            if found is None:
                left = _POLL_SECONDS if until is None else min(_POLL_SECONDS, until - monotonic())
                if left <= 0:
                    return
                self._note(topics, max(left, _POLL_SECONDS))
                self._fetch(topics, left, waiting)
                continue
            number, item = found
            self._unread.remove(number)
            received = self._to_return(topics, item)
            if received is not None:
                if waiting is not None:
                    waiting.discard(received.waited_for or "")
                yield received

    def read_existing(self, *, silence: float = 30.0) -> Iterator[Received]:
        """Return the ends of jobs that are there when the iteration begins, each event once, and stop.

        Later ones may come among them. Raises ConfigurationError with a group; Unavailable where topics cannot be read,
        and when nothing came for `silence` seconds although there is more.
        """
        if self._group is not None:
            raise ConfigurationError("a group's reader cannot tell what is there: other readers get some of it")
        return self._read_existing(silence)

    def _read_existing(self, silence: float) -> Iterator[Received]:
        topics = self._connected()
        topics.note_ends(self._connect_timeout)
        before, since = topics.unread(), monotonic()
        while self._topics is topics:
            yield from self._read(None, 0.0)  # what was fetched
            unread = topics.unread()
            if not unread:
                return
            if unread != before:
                before, since = unread, monotonic()
            elif monotonic() - since > silence:
                raise Unavailable(f"the broker sent nothing for {silence:g} s, although there are more records")
            self._fetch(topics, _POLL_SECONDS, None)

    def commit(self) -> None:
        """Commit the position after all records that were returned. Without a group there is nothing to commit.

        Raises Unavailable when the broker does not take it: it may then be shown again.
        """
        self._check_process()
        self._marks.finish()
        if self._topics is not None:
            self._commit(self._topics, COMMIT_SECONDS)

    def close(self) -> None:
        """Disconnect. Records that were not returned are forgotten; the group's next reader gets them. Closing twice is
        fine.

        In the child of a fork it does nothing: the connection is the parent's.
        """
        topics, self._topics = self._topics, None
        if topics is None or os.getpid() != self._pid:
            return
        try:
            self._note(topics, COMMIT_SECONDS)
        finally:
            topics.close()
            self._unread, self._marks, self._looked_at = self._unread.emptied(), Marks(), {}

    def __iter__(self) -> Iterator[Received]:
        return self.read()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connected(self) -> "EndTopics":
        self._check_process()
        if self._topics is None:
            from headrace_producers.end_topics import EndTopics

            self._topics = EndTopics(
                self._settings, self._group, from_beginning=self._from_beginning, timeout=self._connect_timeout
            )
        return self._topics

    def _fetch(self, topics: "EndTopics", seconds: float, waiting: set[str] | None) -> None:
        for record in topics.poll(seconds):
            place = (record.topic, record.partition)
            received = self._received(place, record)
            if received is None and self._group is None:
                continue
            size = len(record.value or b"") + sum(len(name) + len(value or b"") for name, value in record.headers)
            wanted = waiting is None or _waited_for(received) in waiting
            self._unread.add(Item(place, record.offset, size, received), wanted=wanted)
        if renewed := topics.renewed():
            self._unread.detach(renewed)
            self._marks.forget(renewed)
            for place in renewed:
                self._looked_at.pop(place, None)

    def _received(self, place: Place, record: Any) -> Received | None:
        try:
            envelope, event = decode(record.headers, record.value)
            if _is_end(event):
                return Received(envelope, event)
        except InvalidRecord:
            pass
        if record.offset > self._looked_at.get(place, -1):  # it may be fetched again
            self._looked_at[place] = record.offset
            self.unreadable += 1
        return None

    def _to_return(self, topics: "EndTopics", item: Item[Received | None]) -> Received | None:
        """Return the item's content, or None if it was returned before or belongs to another member now."""
        received = item.content
        if self._group is not None and item.place is not None:
            if item.place not in topics.owned():
                return None
            self._marks.returned(item.place, item.offset)
        if received is None or not self._seen.is_new(received.envelope.id):
            return None
        return received

    def _note(self, topics: "EndTopics", seconds: float) -> None:
        """Commit the offsets of finished events. Offsets that cannot be committed now may be next time; at worst an
        event is shown again."""
        with suppress(Unavailable):
            self._commit(topics, seconds)

    def _commit(self, topics: "EndTopics", seconds: float) -> None:
        if self._group is not None and (offsets := self._marks.to_commit(topics.owned())):
            topics.commit(offsets, seconds)
            self._marks.committed(offsets)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise HeadraceError("this reader was opened before a fork: open one in each process, after the fork")


def results(
    settings: KafkaSettings | None = None,
    *,
    from_beginning: bool = False,
    job_ids: Collection[str] | None = None,
    group: str | None = None,
    timeout: float | None = None,
) -> Iterator[Received]:
    """Yield the ends of jobs as they come (see `ResultReader.read`). Settings come from the environment when not given.

    The position is fixed when the iteration begins: to wait for what you publish, open a `ResultReader` first.
    """
    with ResultReader(settings or KafkaSettings.from_env(), from_beginning=from_beginning, group=group) as reader:
        yield from reader.read(job_ids=job_ids, timeout=timeout)


def _ids(job_ids: Collection[str]) -> set[str]:
    return {job_ids} if isinstance(job_ids, str) else set(job_ids)


def _waited_for(received: Received | None) -> str | None:
    return None if received is None else received.waited_for


def _is_end(event: Event) -> TypeGuard[End]:
    return isinstance(event, End)
