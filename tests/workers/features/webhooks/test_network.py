import asyncio
import threading

import pytest

from headrace_workers.features.webhooks import network
from headrace_workers.features.webhooks.network import SystemResolver

pytestmark = pytest.mark.integration


def test_this_machine_knows_itself():
    found = asyncio.run(_ask(SystemResolver(), "localhost"))
    assert set(found) & {"127.0.0.1", "::1"}
    with pytest.raises(OSError, match=r"\w"):
        asyncio.run(_ask(SystemResolver(), f"{'a' * 70}.invalid"))


def test_a_name_is_asked_for_once_at_a_time():
    asked, answer = [], threading.Event()

    def ask(name):
        asked.append(name)
        answer.wait(120)
        return [f"10.0.0.{len(asked)}"]

    async def many():
        resolver = SystemResolver(ask)
        first = [asyncio.ensure_future(resolver("shop.example")) for _ in range(5)]
        await asyncio.sleep(0)
        answer.set()
        return await asyncio.gather(*first), await resolver("shop.example")

    together, later = asyncio.run(many())
    assert together == [["10.0.0.1"]] * 5
    assert later == ["10.0.0.2"]


def test_a_name_server_that_says_nothing_holds_up_nobody_else(monkeypatch):
    over, mute_is_asked = threading.Event(), threading.Event()

    def ask(name):
        if name == "mute.example":
            mute_is_asked.set()
            over.wait(60)
        return ["10.0.0.1"]

    async def both():
        resolver = SystemResolver(ask)
        with monkeypatch.context() as patch:
            patch.setattr(network, "SECONDS", 0.05)
            mute = asyncio.ensure_future(resolver("mute.example"))
            while not mute_is_asked.is_set():
                await asyncio.sleep(0.001)
        heard = await resolver("shop.example")
        with pytest.raises(OSError, match=r"mute\.example"):
            await mute
        return heard

    assert asyncio.run(both()) == ["10.0.0.1"]
    over.set()


async def _ask(resolver, name):
    return await resolver(name)
