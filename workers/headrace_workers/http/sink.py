"""Records to Kafka from the event loop: each request waits until its own are confirmed, for a bounded time.

Records that come while others are on their way are sent together after them: one hand-over between threads, and one
request to the broker, then carries many records, and costs hardly more than for one.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from itertools import takewhile
from typing import Final, Protocol

from headrace_producers.errors import BufferFull, ProducerClosed, RecordRefused, RecordTooLarge, TopicMissing
from headrace_producers.sink import Record
from headrace_producers.teller import OnDelivery
from headrace_schemas import Topic
from headrace_schemas.errors import HeadraceError, Unavailable
from headrace_workers.core.log import Action, log
from headrace_workers.http.batcher import Batcher
from headrace_workers.http.errors import KafkaOutage, Refusal, Why, refusal_of, stopping, unsaid
from headrace_workers.http.timeouts import LATE, Timeouts

EVERY_SECONDS: Final = 5.0  # the embedded broker confirms records for a topic that was deleted
_AGAIN_SECONDS: Final = 1.0  # while some are missing, or nobody says so
_THREAD_SECONDS: Final = 1.0  # that a look may wait for a thread
DOUBT_SECONDS = 1.0  # then it is looked whether its topic is there
_LOST_SECONDS = 0.5  # a record that waits for so long beyond its time will get no answer
_WATCH_EVERY = 0.5
GATHER_SECONDS = 0.05  # so long others wait for those before them at most: one partition may be slow
_CONNECT_EVERY = 1.0
_CLOSE_SECONDS = 5.0
_AWAY = "no Kafka broker answers: the gateway's log says why"


class Transport(Protocol):
    """The receiver of records: a `KafkaSink`."""

    def send(self, record: Record) -> None:
        """Take one record, in order."""

    def close(self, timeout: float) -> None:
        """Flush and close."""


class Topics:
    """The topics that were missing at the last look. Belongs to the event loop.

    `look` returns them, each with its name in Kafka; it raises Unavailable if no broker answers within `patience`
    seconds.
    """

    def __init__(self, look: Callable[[], Mapping[Topic, str]], executor: Executor, patience: float) -> None:
        def together(calls: list[None]) -> list[Mapping[Topic, str]]:
            return [look()] * len(calls)

        self._look: Batcher[None, Mapping[Topic, str]] = Batcher(
            together, executor, patience=patience + _THREAD_SECONDS, outage=KafkaOutage, service="Kafka"
        )
        self._missing: Mapping[Topic, str] = {}
        self._doubted = asyncio.Event()
        self._heard = False  # since the last look began
        self.silent = True  # no broker says which there are: none has yet, or it did not when it was asked last

    def missing_words(self, wanted: Collection[Topic] = tuple(Topic)) -> str | None:
        """Return what to do if some of these are missing."""
        names = [name for topic, name in self._missing.items() if topic in wanted]
        if not names:
            return None
        subject = f"the topic {names[0]} is" if len(names) == 1 else f"the topics {', '.join(names)} are"
        return f"{subject} not there: run `headrace init` (or the gateway's user of Kafka may not see what is there)"

    async def look(self) -> None:
        """Look now. A broker that does not answer changes nothing of what is known of them. Where it answered others
        meanwhile, it was this process that had no time.
        """
        self._heard = False
        try:
            self._missing = await self._look.ask(None)
            self.silent = False
        except KafkaOutage:
            self.silent = not self._heard

    def doubt(self) -> None:
        """Note that a broker did not answer somebody else: it counts as away until it answers, and is asked at once."""
        self.silent = True
        self._doubted.set()

    def heard(self) -> None:
        """Note that a broker has answered somebody else."""
        self._heard, self.silent = True, False

    async def watch(self) -> None:
        """Look again and again, until this is cancelled."""
        while True:
            self._doubted.clear()
            await self.look()
            with suppress(TimeoutError):
                seconds = _AGAIN_SECONDS if self._missing or self.silent else EVERY_SECONDS
                await asyncio.wait_for(self._doubted.wait(), seconds)


class Sink:
    """Kafka, for requests. It need not be there yet when this is started. Belongs to the event loop."""

    def __init__(
        self, connect: Callable[[OnDelivery], Transport], topics: Topics, executor: Executor, timeouts: Timeouts
    ) -> None:
        self._connect = connect
        self._topics = topics
        self._executor = executor
        self._timeouts = timeouts
        self._transport: Transport | None = None
        self._trouble = ""
        self._silent: str | None = None
        self._to_send: list[PendingPublish] = []
        self._sending: asyncio.Task[None] | None = None
        self._waiting: dict[str, deque[PendingPublish]] = {}
        self._confirmed: deque[tuple[str, HeadraceError | None]] = deque()
        self._since: dict[PendingPublish, float] = {}  # when each request began to wait, the oldest first
        self._connecting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def trouble(self) -> str | None:
        """Why records are not taken at the moment, if they are not: of any topic. Anybody may read it."""
        return self._silence or self._topics.missing_words()

    @property
    def _silence(self) -> str | None:
        if self._transport is None or self._topics.silent:
            return _AWAY
        return self._silent

    async def start(self) -> None:
        """Begin to connect, for as long as it takes, and to look whether the topics are there."""
        self._loop = asyncio.get_running_loop()
        self._connecting = self._loop.create_task(self._keep_connecting())

    async def stop(self) -> None:
        """Let go, once what is on its way is confirmed or has failed."""
        if self._connecting is not None:
            self._connecting.cancel()
        transport, self._transport = self._transport, None
        if transport is not None:
            try:
                await self._loop.run_in_executor(self._executor, transport.close, _CLOSE_SECONDS)
            except Unavailable as error:  # the waiting requests got the error
                log("gateway", logging.WARNING, Action.UNAVAILABLE, f"not all records were confirmed: {error}")

    async def publish(self, records: Sequence[Record]) -> None:
        """Return when Kafka has confirmed all of these (acks=all). Raise a refusal if it refuses them, or does not
        confirm them in time: they may still arrive, unless `should_retry` is None.
        """
        if self._silence:
            raise KafkaOutage(self._silence)
        if refusal := self._missing(records):
            raise refusal
        parcel = PendingPublish(records, self._loop.create_future())
        for record in records:
            self._waiting.setdefault(record.job_id, deque()).append(parcel)
        self._since[parcel] = time.monotonic()
        self._to_send.append(parcel)
        if self._sending is None:
            self._sending = self._loop.create_task(self._send())
        if self._watching is None:
            self._watching = self._loop.create_task(self._watch())
        try:
            if refusal := await parcel.end:
                raise refusal
        finally:
            del self._since[parcel]
            self._forget(parcel)

    async def _watch(self) -> None:
        """Watch all waiting records with one alarm. A missing topic is reported before their time is up."""
        while self._since:
            due = time.monotonic() + _WATCH_EVERY
            await asyncio.sleep(_WATCH_EVERY)
            if time.monotonic() - due > LATE:
                continue  # what was confirmed meanwhile is heard first
            if oldest := self._waited(self._timeouts.silence):
                self._silent = f"a record has waited {time.monotonic() - self._since[oldest[0]]:.1f} s to be confirmed"
            if self._waited(DOUBT_SECONDS):
                await self._topics.look()
            for parcel in self._waited(DOUBT_SECONDS):
                if refusal := self._missing(parcel.records, should_retry=False):
                    parcel.ends(refusal)
            for parcel in self._waited(self._timeouts.confirmed + _LOST_SECONDS):
                parcel.ends(KafkaOutage(f"not confirmed within {self._timeouts.confirmed:g} s", should_retry=False))
        self._watching = self._silent = None

    def _waited(self, seconds: float) -> "list[PendingPublish]":
        """Return the records that have waited for so long: the oldest, which come first."""
        until = time.monotonic() - seconds
        return [parcel for parcel, _ in takewhile(lambda each: each[1] <= until, self._since.items())]

    def _missing(self, records: Iterable[Record], should_retry: bool | None = None) -> Refusal | None:
        words = self._topics.missing_words({record.topic for record in records})
        return KafkaOutage(words, Why.KAFKA_REFUSES, should_retry=should_retry) if words else None

    def _forget(self, parcel: "PendingPublish") -> None:
        """Forget a request that nobody waits for any more."""
        for record in parcel.records:
            queue = self._waiting.get(record.job_id)
            if queue and parcel in queue:
                queue.remove(parcel)
            if not queue:
                self._waiting.pop(record.job_id, None)

    async def _send(self) -> None:
        """Send all that waits, on a thread; records that come meanwhile go together in the next send."""
        while self._to_send:
            parcels, self._to_send = self._to_send, []
            try:
                refusals = await self._loop.run_in_executor(self._executor, self._hand_over, parcels)
            except Exception as error:  # whatever it was, some of them may have been sent
                refusals = [KafkaOutage(str(error) or type(error).__name__, should_retry=False)] * len(parcels)
            for parcel, refusal in zip(parcels, refusals, strict=True):
                if refusal is not None:
                    parcel.ends(refusal)
            await asyncio.wait([parcel.end for parcel in parcels], timeout=GATHER_SECONDS)
        self._sending = None

    async def _keep_connecting(self) -> None:
        while True:
            try:
                self._transport = await self._loop.run_in_executor(self._executor, self._connect, self._on_delivery)
                break
            except HeadraceError as error:
                if (trouble := str(error)) != self._trouble:
                    self._trouble = trouble
                    log("gateway", logging.WARNING, Action.UNAVAILABLE, f"waiting for Kafka: {trouble}")
            await asyncio.sleep(_CONNECT_EVERY)
        await self._topics.watch()

    def _hand_over(self, parcels: "Sequence[PendingPublish]") -> list[Refusal | None]:
        """Hand records to the transport, on a thread: a full buffer makes it wait."""
        transport = self._transport
        if transport is None:
            raise Unavailable("the gateway is being stopped")
        refusals: list[Refusal | None] = []
        for parcel in parcels:
            taken = 0
            try:
                for record in parcel.records:
                    transport.send(record)
                    taken += 1
                refusals.append(None)
            except HeadraceError as error:
                if isinstance(error, Unavailable) and not isinstance(error, BufferFull):  # it was asked for the topic
                    self._loop.call_soon_threadsafe(self._topics.doubt)
                refusals.append(_not_taken(error, should_retry=False if taken else None))
        return refusals

    def _on_delivery(self, job_id: str, error: HeadraceError | None) -> None:
        """Pass on all deliveries of a moment to the event loop in one call, on the teller's thread."""
        first = not self._confirmed
        self._confirmed.append((job_id, error))
        if first:
            self._loop.call_soon_threadsafe(self._hear)

    def _hear(self) -> None:
        while self._confirmed:
            job_id, error = self._confirmed.popleft()
            if error is None:
                self._silent = None
                self._topics.heard()
            queue = self._waiting.get(job_id)
            if queue:
                queue.popleft().hears(error)  # the outcomes of one job's records come in their order


class PendingPublish:
    """The records of one request, until Kafka has said of each what became of it."""

    def __init__(self, records: Sequence[Record], end: "asyncio.Future[Refusal | None]") -> None:
        self.records = records
        self.end = end
        self._left = len(records)
        self._errors: list[HeadraceError] = []

    def hears(self, error: HeadraceError | None) -> None:
        """Note that one more record was confirmed, or has failed."""
        self._left -= 1
        if error is not None:
            self._errors.append(error)
        if not self._left:
            whole = len(self._errors) == len(self.records)
            self.ends(_refusal_of_all(self._errors, should_retry=None if whole else False) if self._errors else None)

    def ends(self, refusal: Refusal | None) -> None:
        """End all records alike, unless their outcome is known."""
        if not self.end.done():
            self.end.set_result(refusal)


def _not_taken(error: HeadraceError, *, should_retry: bool | None) -> Refusal:
    """Return the refusal of a request that the transport did not take. If `should_retry` is None, the transport has
    none of its records.
    """
    match error:
        case TopicMissing():
            return KafkaOutage(str(error), Why.KAFKA_REFUSES, should_retry=should_retry)
        case ProducerClosed():
            return stopping(should_retry=should_retry)
        case Unavailable():
            return KafkaOutage(unsaid(error, "Kafka"), should_retry=should_retry)
    refusal = refusal_of(error)
    refusal.should_retry = should_retry
    return refusal


def _refusal_of_all(errors: Sequence[BaseException], *, should_retry: bool | None) -> KafkaOutage:
    """Return the refusal of a request's records: if one was not confirmed, nobody knows if Kafka has it."""
    for error in errors:
        if not isinstance(error, RecordRefused):
            return KafkaOutage(str(error), should_retry=False)
    why = Why.TOO_LARGE if isinstance(errors[0], RecordTooLarge) else Why.KAFKA_REFUSES
    return KafkaOutage(str(errors[0]), why, should_retry=should_retry)
