import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace_schemas.errors import Unavailable
from headrace_workers.http.batcher import Batcher
from headrace_workers.http.errors import LedgerOutage


def test_what_is_asked_for_meanwhile_is_asked_for_together():
    calls, go = [], threading.Event()

    def do(items):
        calls.append(list(items))
        assert go.wait(120)
        return [item * 2 for item in items]

    async def ask():
        together = Batcher(do, ThreadPoolExecutor(), patience=60.0)
        first = asyncio.create_task(together.ask(1))
        while not calls:
            await asyncio.sleep(0)
        rest = [asyncio.create_task(together.ask(n)) for n in (2, 3, 4)]
        await asyncio.sleep(0)
        go.set()
        return await asyncio.gather(first, *rest)

    assert asyncio.run(ask()) == [2, 4, 6, 8]
    assert calls == [[1], [2, 3, 4]]


def test_an_error_is_its_item_s_alone_or_everybody_s():
    def do(items):
        if "away" in items:
            raise Unavailable("it is away")
        return [ValueError(item) if item == "bad" else item for item in items]

    async def ask(*items):
        together = Batcher(do, ThreadPoolExecutor(), patience=60.0)
        return await asyncio.gather(*(together.ask(item) for item in items), return_exceptions=True)

    good, bad = asyncio.run(ask("good", "bad"))
    assert (good, type(bad)) == ("good", ValueError)
    assert [type(item) for item in asyncio.run(ask("away", "good"))] == [LedgerOutage, LedgerOutage]


def test_nobody_waits_longer_than_the_patience_and_who_comes_later_not_at_all():
    """A call that hangs costs each request its patience, and those behind it nothing. Each is told who was silent."""
    go = threading.Event()

    async def ask():
        executor = ThreadPoolExecutor()
        together = Batcher(lambda items: [go.wait(120) for _ in items], executor, patience=0.05)
        with pytest.raises(LedgerOutage, match=r"the ledger did not answer within 0\.05 s"):
            await together.ask(1)
        loop = asyncio.get_running_loop()
        while loop.time() - together._began <= 0.05:  # the call began a moment after it was asked for
            await asyncio.sleep(0.001)
        with pytest.raises(LedgerOutage):
            await together.ask(2)
        assert (together._items, together._alarm) == ([], None)  # nobody began to wait
        go.set()
        while together._task is not None:
            await asyncio.sleep(0.01)
        together._patience = 60.0  # towards what answers
        return await together.ask(3)

    assert asyncio.run(ask()) is True


def test_a_process_that_is_busy_does_not_say_that_the_service_is_silent():
    answered = threading.Event()

    def do(items):
        answered.set()
        return [item * 2 for item in items]

    async def ask():
        together = Batcher(do, ThreadPoolExecutor(), patience=0.2)
        task = asyncio.create_task(together.ask(1))
        while together._began is None:
            await asyncio.sleep(0)
        assert answered.wait(60)
        time.sleep(0.5)
        return await task

    assert asyncio.run(ask()) == 2


def test_a_process_that_was_stopped_refuses_nobody_who_comes_then():
    go = threading.Event()

    async def ask():
        together = Batcher(lambda items: [go.wait(120) for _ in items], ThreadPoolExecutor(), patience=0.2)
        first = asyncio.create_task(together.ask(1))
        while together._began is None:
            await asyncio.sleep(0)
        time.sleep(0.5)
        later = together.put(2)  # no refusal
        go.set()
        await asyncio.gather(first, later, return_exceptions=True)

    asyncio.run(ask())


def test_a_process_that_is_busy_gives_up_all_the_same():
    go = threading.Event()

    async def ask():
        together = Batcher(lambda items: [go.wait(120) for _ in items], ThreadPoolExecutor(), patience=0.2)
        task = asyncio.create_task(together.ask(1))
        await asyncio.sleep(0)
        time.sleep(0.5)
        try:
            with pytest.raises(LedgerOutage):
                await task
        finally:
            go.set()

    asyncio.run(ask())
