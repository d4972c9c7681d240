import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace_workers.core.ledger.counts import Pressure
from headrace_workers.http.admission import LoadShedding
from headrace_workers.http.errors import Refusal, Why

PLACE, BULK = ("model.echo", 0), ("model.echo", 1)


def checked(pressure: Pressure, place=PLACE):
    """Why a job for this place is refused, if it is."""

    async def check():
        crowding = LoadShedding(lambda _places: pressure, ThreadPoolExecutor(), most=10, longest=60.0, patience=60.0)
        await crowding.check([place])

    try:
        asyncio.run(check())
    except Refusal as refusal:
        return refusal.why if refusal.retry_after else None
    return None


@pytest.mark.parametrize(
    ("pressure", "place", "why"),
    [
        (Pressure(9), PLACE, None),
        (Pressure(10), PLACE, Why.LEDGER_FULL),
        (Pressure(0, {PLACE: 60_000}), PLACE, None),
        (Pressure(0, {PLACE: 60_001}), PLACE, Why.QUEUE_AGE),
        (Pressure(0, {PLACE: 60_001}), ("model.other", 0), None),
        (Pressure(0, {BULK: 600_000}), BULK, None),
    ],
)  # fmt: skip
def test_jobs_that_would_only_wait_are_refused(pressure, place, why):
    assert checked(pressure, place) is why


def test_the_ledger_is_asked_once_a_second_and_for_new_places():
    asked, now = [], [0.0]

    async def check():
        crowding = LoadShedding(
            lambda places: asked.append(set(places)) or Pressure(0),
            ThreadPoolExecutor(), most=10, longest=60.0, patience=60.0, monotonic=lambda: now[0],
        )  # fmt: skip
        for _ in range(3):
            await crowding.check([PLACE])
        await crowding.check([BULK])
        await crowding.check([PLACE])
        now[0] = 1.5
        await crowding.check([PLACE])

    asyncio.run(check())
    assert asked == [{PLACE}, {PLACE, BULK}, {PLACE}]


def test_a_queue_that_is_too_old_stays_so_while_others_are_asked_for():
    """Jobs for other places come in between, and let none in that would only wait."""

    def look(places):
        return Pressure(0, {place: 60_001 for place in places if place == PLACE})

    async def check():
        crowding = LoadShedding(look, ThreadPoolExecutor(), most=10, longest=60.0, patience=60.0, monotonic=lambda: 0.0)
        for _ in range(2):
            with pytest.raises(Refusal) as told:
                await crowding.check([PLACE])
            assert told.value.why is Why.QUEUE_AGE
            await crowding.check([BULK])

    asyncio.run(check())
