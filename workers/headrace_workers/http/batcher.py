"""Batches of the requests that come at the same moment: one call on a thread serves them all."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

from headrace_schemas.errors import Unavailable
from headrace_workers.http.errors import LedgerOutage, Refusal, unsaid
from headrace_workers.http.timeouts import LATE

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")


def for_all(look: Callable[[frozenset[K]], R]) -> Callable[[list[frozenset[K]]], list[R]]:
    """Return a batcher's call that looks once for what all items want, and gives each the whole answer."""
    return lambda wanted: [look(frozenset().union(*wanted))] * len(wanted)


class Batcher(Generic[T, R]):
    """Queue that gathers items while a call is under way, so that calls grow with the load.

    `do` takes the items and gives an answer for each, in their order; an exception in an answer's place concerns that
    item alone, a raised one all of them. Nobody waits longer than `patience` seconds; if the present call has been
    silent for as long, a new item fails at once, with an `outage` that names the `service`. Belongs to the event loop.
    """

    def __init__(
        self,
        do: Callable[[list[T]], Sequence[R | BaseException]],
        executor: Executor,
        *,
        patience: float,
        most: int = 500,
        outage: Callable[[str], Refusal] = LedgerOutage,
        service: str = "the ledger",
    ) -> None:
        self._do = do
        self._executor = executor
        self._most = most
        self._patience = patience
        self._outage = outage
        self._service = service
        self._items: list[tuple[T, asyncio.Future[R]]] = []
        self._waiting: deque[tuple[float, asyncio.Future[R]]] = deque()  # until when each waits, in that order
        self._alarm: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._began: float | None = None  # the call that is under way, if one is
        self._given_up = False  # by somebody, since it is

    async def ask(self, item: T) -> R:
        """Return the answer for this item. Raise what `do` raises, and Unavailable as a refusal."""
        return await self.answer(self.put(item))

    def put(self, item: T) -> "asyncio.Future[R]":
        """Ask for this item, and go on meanwhile: `answer` waits for it. A refusal where the service is silent."""
        loop = asyncio.get_running_loop()
        # If no item has given up yet, this process itself was busy for so long.
        if self._given_up and self._began is not None and loop.time() - self._began > self._patience:
            raise self._silent()
        future: asyncio.Future[R] = loop.create_future()
        self._items.append((item, future))
        self._waiting.append((loop.time() + self._patience, future))
        if self._task is None:
            self._task = loop.create_task(self._run(loop))  # with all that comes until it has its turn
        if self._alarm is None:
            self._set_alarm(loop)
        return future

    async def answer(self, future: "asyncio.Future[R]") -> R:
        """Return the answer for what was put. Raise as `ask` does."""
        try:
            return await future
        except Unavailable as error:
            raise self._outage(unsaid(error, self._service)) from error
        finally:
            self._forget_answered()

    def _set_alarm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set one alarm for all waiters: an alarm for each would cost as much as the call."""
        due = self._waiting[0][0]
        self._alarm = loop.call_at(due, self._ring, loop, due)

    def _ring(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        late = loop.time() - due
        if late > LATE:  # it was not the service that kept them waiting: its answer may be among what comes now
            self._alarm = loop.call_later(late, self._expire, loop)
        else:
            self._expire(loop)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting and self._waiting[0][0] <= loop.time():
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(self._silent())
                self._given_up = True
        self._forget_answered()
        self._alarm = None
        if self._waiting:
            self._set_alarm(loop)

    def _forget_answered(self) -> None:
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()

    def _silent(self) -> Refusal:
        return self._outage(f"{self._service} did not answer within {self._patience:g} s")

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._items:
            batch = [item for item in self._items[: self._most] if not item[1].done()]  # others wait no more
            del self._items[: self._most]
            if batch:
                await self._call(loop, batch)
        self._task = None

    async def _call(self, loop: asyncio.AbstractEventLoop, batch: "list[tuple[T, asyncio.Future[R]]]") -> None:
        self._given_up, self._began = False, loop.time()
        answers: Sequence[R | BaseException]
        try:
            answers = await loop.run_in_executor(self._executor, self._do, [item for item, _ in batch])
        except Exception as error:
            answers = [error] * len(batch)
        self._began = None
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
