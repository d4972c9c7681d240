import asyncio
from contextlib import ExitStack

import pytest

from headrace_workers.features.webhooks.sender import CONCURRENCY, Line


class Time:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def nothing():
    return False


def run(work):
    """`work(line, time)` in a loop of its own."""

    async def _run():
        time = Time()
        return await work(Line(time), time)

    return asyncio.run(_run())


async def tell(line, time, seconds, answered=True):
    assert await line.turn(nothing)
    with line.on_its_way() as told:
        time.now += seconds
        told(answered)


def test_the_first_goes_alone_until_it_is_answered():
    async def work(line, time):
        assert await line.begin()
        assert await line.turn(nothing)
        with line.on_its_way() as told:
            second = asyncio.create_task(line.begin())
            await asyncio.sleep(0)
            assert not second.done()
            told(True)
        assert await second
        return line.others_wait

    assert run(work) is False


@pytest.mark.parametrize(
    ("usual", "after", "begins"),
    [(None, 0.26, False), (0.01, 0.24, True), (0.01, 0.26, False), (0.2, 0.7, True), (0.2, 0.9, False),
     (5.0, 1.9, True), (5.0, 2.1, False)],
)  # fmt: skip
def test_nobody_begins_beside_silent_ones(usual, after, begins):
    async def work(line, time):
        others = ExitStack()
        if usual is not None:
            await tell(line, time, usual)
            assert await line.turn(nothing)
            others.enter_context(line.on_its_way())
        assert await line.turn(nothing)
        with others, line.on_its_way():
            time.now += after
            assert await line.begin() is begins
            assert await line.turn(nothing) is begins
            assert line.others_wait is not begins
            assert await line.turn(lambda: True)  # its own are on their way: it waits for them anyway
        return True

    assert run(work)


def test_one_that_did_not_answer_is_not_known_any_more():
    async def work(line, time):
        await tell(line, time, 1.0)
        await tell(line, time, 15.0, answered=False)
        assert await line.turn(nothing)
        with line.on_its_way():
            time.now += 0.3
            return await line.begin()

    assert run(work) is False


def test_one_that_hangs_beside_none_holds_up_one_more_and_no_others():
    """It may hang by itself: the next one shows whether the receiver does."""

    async def work(line, time):
        await tell(line, time, 0.01)
        assert await line.turn(nothing)
        with line.on_its_way():
            time.now += 5.0
            assert await line.begin()
            assert await line.turn(nothing)
            with line.on_its_way():
                time.now += 0.3
                assert not await line.begin()
        return True

    assert run(work)


def test_one_that_hangs_is_passed_by_others():
    async def work(line, time):
        await tell(line, time, 0.01)
        hanging = []
        for _ in range(CONCURRENCY - 1):  # each has one place
            assert await line.begin()
            assert await line.turn(nothing)
            hanging.append(line.on_its_way())
            told = hanging[-1].__enter__()
            await tell(line, time, 0.01)
            time.now += 5.0
        await tell(line, time, 0.01)
        told(False)
        for item in hanging:
            item.__exit__(None, None, None)
        assert line.idle
        assert await line.turn(nothing)
        with line.on_its_way():
            return await line.begin()  # how long it usually takes is still known

    assert run(work)


def test_the_silent_are_not_passed_by_those_that_were_sent_before_them():
    """Their answers say nothing of a receiver that hangs since."""

    async def work(line, time):
        await tell(line, time, 0.01)
        assert await line.turn(nothing)
        with line.on_its_way() as first:
            assert await line.turn(nothing)
            assert await line.turn(nothing)
            with line.on_its_way(), line.on_its_way():
                first(True)
                time.now += 0.3
                return await line.begin()

    assert run(work) is False


def test_so_many_go_side_by_side():
    async def work(line, time):
        await tell(line, time, 0.001)
        gone = [await line.turn(nothing) for _ in range(CONCURRENCY)]
        on_way = [line.on_its_way() for _ in gone]
        for item in on_way:
            item.__enter__()
        more = asyncio.create_task(line.turn(nothing))
        await asyncio.sleep(0)
        assert not more.done()
        on_way[0].__exit__(None, None, None)
        assert await more
        return line.idle

    assert run(work) is False
