import asyncio
import time

import pytest

from headrace_workers.http.timeouts import is_done_within


def test_work_that_is_done_is_not_waited_for():
    async def run() -> bool:
        work = asyncio.get_running_loop().create_future()
        work.set_result(None)
        return await is_done_within(600.0, work)

    assert asyncio.run(run())


def test_a_process_that_was_stopped_looks_once_more():
    async def run() -> bool:
        loop = asyncio.get_running_loop()
        work = loop.create_future()
        looking = asyncio.create_task(is_done_within(0.01, work))
        await asyncio.sleep(0)
        time.sleep(0.5)
        loop.call_later(0.02, work.set_result, None)
        return await looking

    assert asyncio.run(run())


@pytest.mark.parametrize("stopped", [0.0, 0.2])
def test_work_that_is_never_done_is_given_up(stopped: float):
    async def run() -> bool:
        looking = asyncio.create_task(is_done_within(0.01, asyncio.get_running_loop().create_future()))
        await asyncio.sleep(0)
        time.sleep(stopped)
        return await looking

    assert not asyncio.run(run())
