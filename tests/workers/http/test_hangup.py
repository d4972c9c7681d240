import asyncio
import contextlib

import pytest

from headrace_workers.http.hangup import ClientGone, while_here


class Client:
    """A request whose body was read: of it nothing more is heard until its client hangs up."""

    def __init__(self):
        self.hangs_up = asyncio.Event()

    async def receive(self):
        await self.hangs_up.wait()
        return {"type": "http.disconnect"}


def test_what_comes_of_it_is_returned_and_nothing_is_left():
    async def work():
        client = Client()
        done = await while_here(client, asyncio.sleep(0, "done"))
        client.hangs_up.set()
        await asyncio.sleep(0.01)
        return done, len(asyncio.all_tasks())

    assert asyncio.run(work()) == ("done", 1)


def test_who_hangs_up_ends_the_work():
    ended = []

    async def endless():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    async def work():
        client = Client()
        asyncio.get_running_loop().call_soon(client.hangs_up.set)
        with pytest.raises(ClientGone):
            await while_here(client, endless())
        await asyncio.sleep(0)
        return asyncio.current_task().cancelling()

    assert asyncio.run(work()) == 0
    assert ended == ["work"]


def test_who_hangs_up_when_the_work_ends_is_gone():
    async def work():
        client, answer = Client(), asyncio.get_running_loop().create_future()

        def both():
            client.hangs_up.set()
            asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(answer.set_result, 1))

        asyncio.get_running_loop().call_soon(both)
        with contextlib.suppress(ClientGone):
            await while_here(client, asyncio.wait_for(answer, 30))
        await asyncio.sleep(0.01)
        return asyncio.current_task().cancelling()

    assert asyncio.run(work()) == 0


def test_one_that_is_cancelled_by_another_is_no_client_that_is_gone():
    async def work():
        task = asyncio.create_task(while_here(Client(), asyncio.sleep(30)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
