"""Checks of requests that take time: how many run at once, and what becomes of the others."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from headrace_schemas.errors import InvalidRecord, Unavailable
from headrace_workers.http.admission import AT_A_TIME, THREADS, Examinations
from headrace_workers.http.errors import Refusal, Why


class Held:
    """A check that goes on until it is let go, and counts how many of its calls run at once."""

    def __init__(self) -> None:
        self.most = self._running = 0
        self.go_on = threading.Event()
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
        self.go_on.wait(30)
        with self._lock:
            self._running -= 1
        return "checked"

    async def is_run_by(self, count: int) -> None:
        async with asyncio.timeout(30):
            while self._running < count:
                await asyncio.sleep(0.01)


def _raises(error: Exception) -> Callable[[], None]:
    def check() -> None:
        raise error

    return check


def test_few_checks_run_at_once_and_the_others_wait() -> None:
    async def run() -> None:
        examinations, held = Examinations(patience=60.0), Held()
        mine = [asyncio.create_task(examinations.run("a", held)) for _ in range(20)]
        await held.is_run_by(AT_A_TIME)
        assert await examinations.run("b", lambda: "at once") == "at once"
        others = [asyncio.create_task(examinations.run(text, held)) for text in "cdefgh"]
        await held.is_run_by(THREADS)
        held.go_on.set()
        assert await asyncio.gather(*mine, *others) == ["checked"] * 26
        assert held.most == THREADS

    asyncio.run(run())


def test_a_check_that_cannot_begin_in_time_is_refused() -> None:
    async def run() -> None:
        examinations, held = Examinations(patience=0.05), Held()
        begun = [asyncio.create_task(examinations.run("a", held)) for _ in range(AT_A_TIME)]
        await held.is_run_by(AT_A_TIME)
        with pytest.raises(Refusal) as refused:
            await examinations.run("a", held)
        assert (refused.value.why, refused.value.retry_after) == (Why.BUSY, 1.0)
        held.go_on.set()
        await asyncio.gather(*begun)
        assert await examinations.run("a", held) == "checked"

    asyncio.run(run())


def test_a_check_whose_client_has_gone_keeps_its_place_until_it_ends() -> None:
    """Its thread is still at work, so that a client that hangs up again and again starts no more of them."""

    async def run() -> None:
        examinations, held = Examinations(patience=0.05), Held()
        for _ in range(AT_A_TIME):
            gone = asyncio.create_task(examinations.run("a", held))
            await asyncio.sleep(0)
            gone.cancel()
        await held.is_run_by(AT_A_TIME)
        with pytest.raises(Refusal, match="too many jobs under way"):
            await examinations.run("a", held)
        held.go_on.set()

    asyncio.run(run())


def test_errors_of_checks_are_raised() -> None:
    async def run() -> None:
        examinations = Examinations(patience=60.0)
        with pytest.raises(InvalidRecord, match="no schema"):
            await examinations.run("a", _raises(InvalidRecord("no schema")))
        with pytest.raises(Refusal, match="no process") as refused:
            await examinations.run("a", _raises(Unavailable("no process could be started")))
        assert (refused.value.why, refused.value.why.status, refused.value.retry_after) == (Why.MACHINE_BUSY, 503, 1.0)

    asyncio.run(run())
