"""Records to Kafka from the event loop: each request waits until its own are confirmed, for a bounded time."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import Protocol

from headrace_producers.errors import ProducerClosed, RecordRefused, RecordTooLarge, TopicMissing
from headrace_producers.sink import Record
from headrace_producers.teller import OnDelivery
from headrace_schemas.errors import HeadraceError, Unavailable
from headrace_workers.gateway.errors import KafkaAway, Refusal, Why, refusal_of
from headrace_workers.gateway.together import Together
from headrace_workers.gateway.topics import Topics
from headrace_workers.log import Action, log

CONFIRM_SECONDS = 5.0  # a record that is not confirmed by then has failed
_SILENT_SECONDS = 2.0  # one that waits for so long says that Kafka is away: others are told at once
_DOUBT_SECONDS = 1.0  # then it is looked whether its topic is there
_CONNECT_EVERY = 1.0
_CLOSE_SECONDS = 5.0


class Transport(Protocol):
    """What records are handed to: a `KafkaSink`."""

    def send(self, record: Record) -> None:
        """Take one record, in order."""

    def close(self, timeout: float) -> None:
        """Flush and let go."""


class Sink:
    """Kafka, for requests. It need not be there yet when this is started. Belongs to the event loop."""

    def __init__(self, connect: Callable[[OnDelivery], Transport], topics: Topics, executor: Executor) -> None:
        self._connect = connect
        self._topics = topics
        self._executor = executor
        self._transport: Transport | None = None
        self._trouble = "no broker has answered yet"
        # What could not be handed over in time, or not whole, may be sent all the same.
        self._send: Together[Sequence[Record], None] = Together(
            self._hand_over, executor, away=lambda words: KafkaAway(words, again=False)
        )
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._told: deque[tuple[str, HeadraceError | None]] = deque()
        self._since: dict[int, float] = {}  # when each request began to wait, the oldest first
        self._number = 0
        self._connecting: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def trouble(self) -> str | None:
        """Why records are not taken at the moment, if they are not: of any topic."""
        return self._silence or self._topics.missing_words()

    @property
    def _silence(self) -> str | None:
        if self._transport is None:
            return self._trouble
        oldest = next(iter(self._since.values()), None)
        if oldest is not None and time.monotonic() - oldest > _SILENT_SECONDS:
            return f"a record has waited {time.monotonic() - oldest:.1f} s to be confirmed"
        return None

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
            except Unavailable as error:  # whoever waited for these was told
                log("gateway", logging.WARNING, Action.UNAVAILABLE, f"not all records were confirmed: {error}")

    async def publish(self, records: Sequence[Record]) -> None:
        """Return when Kafka has all of these (acks=all). KafkaAway where it did not say so in time, or takes them not:
        they may still arrive, unless `again` is None, which says that it has none of them.
        """
        if trouble := self._silence:
            raise KafkaAway(trouble)
        self._refuse_missing(records)
        self._number += 1
        number = self._number
        futures = [self._loop.create_future() for _ in records]
        for record, future in zip(records, futures, strict=True):
            self._waiting.setdefault(record.job_id, deque()).append(future)
        self._since[number] = time.monotonic()
        try:
            await self._send.ask(records)
            async with asyncio.timeout(CONFIRM_SECONDS + 1):
                told = await self._ends(records, futures)
        except TimeoutError:
            raise KafkaAway(f"not confirmed within {CONFIRM_SECONDS:g} s", again=False) from None
        finally:
            del self._since[number]
            for record, future in zip(records, futures, strict=True):
                self._forget(record.job_id, future)
        if errors := [error for error in told if error is not None]:
            raise _refusal_of_all(errors, again=None if len(errors) == len(records) else False)

    async def _ends(
        self, records: Sequence[Record], futures: Sequence["asyncio.Future[None]"]
    ) -> list[BaseException | None]:
        """What became of each. A topic that went missing is told of before their time is up."""
        _, waiting = await asyncio.wait(futures, timeout=_DOUBT_SECONDS)
        if waiting:
            await self._topics.look()
            self._refuse_missing(records, again=False)
        return await asyncio.gather(*futures, return_exceptions=True)

    def _refuse_missing(self, records: Iterable[Record], again: bool | None = None) -> None:
        if words := self._topics.missing_words({record.topic for record in records}):
            raise KafkaAway(words, Why.KAFKA_REFUSES, again=again)

    def _forget(self, job_id: str, future: asyncio.Future[None]) -> None:
        if future.done() and not future.cancelled():
            future.exception()  # it was seen to
        queue = self._waiting.get(job_id)
        if queue is None:
            return
        if future in queue:
            queue.remove(future)
        if not queue:
            del self._waiting[job_id]

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

    def _hand_over(self, requests: list[Sequence[Record]]) -> list[BaseException | None]:
        """On a thread: a buffer that is full makes it wait."""
        transport = self._transport
        if transport is None:
            raise Unavailable("the gateway is being stopped")
        answers: list[BaseException | None] = []
        for records in requests:
            taken = 0
            try:
                for record in records:
                    transport.send(record)
                    taken += 1
                answers.append(None)
            except HeadraceError as error:
                answers.append(_not_taken(error, again=False if taken else None))
        return answers

    def _on_delivery(self, job_id: str, error: HeadraceError | None) -> None:
        """On the teller's thread: one call of the loop for all that is told at a time."""
        first = not self._told
        self._told.append((job_id, error))
        if first:
            self._loop.call_soon_threadsafe(self._hear)

    def _hear(self) -> None:
        while self._told:
            job_id, error = self._told.popleft()
            queue = self._waiting.get(job_id)
            future = queue.popleft() if queue else None  # the records of one job are told of in their order
            if future is None or future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)


def _not_taken(error: HeadraceError, *, again: bool | None) -> Refusal:
    """What the transport did not take: it has nothing of the request where `again` is None."""
    match error:
        case TopicMissing():
            return KafkaAway(str(error), Why.KAFKA_REFUSES, again=again)
        case ProducerClosed():
            return Refusal(Why.STOPPING, "this gateway is being stopped: send again", retry_after=1.0, again=again)
        case Unavailable():
            return KafkaAway(str(error), again=again)
    return refusal_of(error)


def _refusal_of_all(errors: Sequence[BaseException], *, again: bool | None) -> KafkaAway:
    """What became of a request's records: where one was not confirmed, nobody knows whether Kafka has it."""
    for error in errors:
        if not isinstance(error, RecordRefused):
            return KafkaAway(str(error), again=False)
    why = Why.TOO_LARGE if isinstance(errors[0], RecordTooLarge) else Why.KAFKA_REFUSES
    return KafkaAway(str(errors[0]), why, again=again)
