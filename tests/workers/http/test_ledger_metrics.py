"""A gateway asks the ledger for its metrics once in a while, and shows the last ones while it does not answer."""

import asyncio

import pytest

from headrace_workers.core.ledger.metrics import Snapshot, gauge
from headrace_workers.http.errors import LedgerOutage
from headrace_workers.http.metrics import LedgerMetricsReader


class Asked:
    """Stands for the ledger's answers, and for the seconds."""

    def __init__(self):
        self.now, self.asked, self.answer = 0.0, 0, None

    async def __call__(self):
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, asyncio.Event):
            await self.answer.wait()
            return None
        return self.answer

    def monotonic(self):
        return self.now


@pytest.fixture
def asked():
    return Asked()


def reader(asked, patience=60.0):
    return LedgerMetricsReader(asked, every=2.0, patience=patience, monotonic=asked.monotonic)


def snapshot(value, age_ms=0):
    return Snapshot([gauge("headrace_x", "x", ("queue",), [["q", value]])], {}, age_ms)


async def lines(reader):
    text = (await reader.text()).decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_a_thousand_scrapes_ask_the_ledger_once(asked):
    asked.answer = snapshot(3.0)

    async def scrape():
        one = reader(asked)
        texts = await asyncio.gather(*(one.text() for _ in range(1_000)))
        asked.now = 1.9
        texts.append(await one.text())
        assert asked.asked == 1
        asked.now = 2.0
        await one.text()
        return texts

    assert all(b'headrace_x{queue="q"} 3.0' in text for text in asyncio.run(scrape()))
    assert asked.asked == 2


def test_the_last_metrics_stay_with_their_age_while_the_ledger_is_away(asked):
    asked.answer = snapshot(3.0, age_ms=4_000)

    async def scrape():
        one = reader(asked)
        assert await lines(one) == ['headrace_x{queue="q"} 3.0', "headrace_ledger_metrics_age_seconds 4.0"]
        asked.answer, asked.now = LedgerOutage("away"), 60.0
        assert await lines(one) == ['headrace_x{queue="q"} 3.0', "headrace_ledger_metrics_age_seconds 64.0"]
        asked.answer, asked.now = snapshot(5.0), 63.0
        assert await lines(one) == ['headrace_x{queue="q"} 5.0', "headrace_ledger_metrics_age_seconds 0.0"]

    asyncio.run(scrape())


def test_no_scrape_waits_for_a_ledger_that_hangs_and_it_is_asked_once_meanwhile(asked):
    async def scrape():
        one, freed = reader(asked, patience=0.01), asyncio.Event()
        asked.answer = freed
        for asked.now in (0.0, 10.0, 20.0):
            assert await lines(one) == ["headrace_ledger_metrics_age_seconds +Inf"]
        assert asked.asked == 1
        freed.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asked.answer = snapshot(1.0)
        asked.now = 30.0
        assert len(await lines(one)) == 2

    asyncio.run(scrape())
