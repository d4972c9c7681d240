import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from headrace_schemas import JobCancelled
from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.job_status import Looked, Standing
from headrace_workers.core.progress import Progress
from headrace_workers.http import waiter as room
from headrace_workers.http.waiter import Waiter


class Book:
    def __init__(self):
        self.ended, self.there, self.refused, self.looks = {}, set(), {}, []
        self.away = False

    def end(self, job_id):
        event = JobCancelled(job_id=job_id, tenant="t").model_dump_json().encode()
        self.ended[job_id] = ("headrace.job.cancelled.v1", event)

    def look(self, known, unknown, whole):
        self.looks.append((frozenset(known), frozenset(unknown)))
        if self.away:
            raise Unavailable("it is away")
        ended = {job_id: self.ended[job_id] for job_id in (*known, *unknown) if job_id in self.ended}
        stand = {job_id: Standing("t") for job_id in whole if job_id in ended}
        return Looked(ended, frozenset(set(unknown) & (self.there | set(self.ended))), {}, stand)


def waiting(work):
    """Run `work(waiter, book)` with a waiter that looks when it is rung, and else hardly ever."""

    async def run():
        book = Book()
        waiter = Waiter(book.look, ThreadPoolExecutor(), Progress().loop("waiter"))
        waiter.start()
        try:
            return await work(waiter, book)
        finally:
            await waiter.stop()

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def _no_looks_unasked(monkeypatch):
    monkeypatch.setattr(room, "REST", 60.0)


def test_all_that_wait_share_one_look():
    ids = [str(uuid4()) for _ in range(200)]

    async def work(waiter, book):
        tasks = [asyncio.create_task(waiter.ends([job_id], 30)) for job_id in ids]
        while waiter.waiting < len(ids):
            await asyncio.sleep(0.001)
        while frozenset(ids) not in [unknown for _, unknown in book.looks]:
            await asyncio.sleep(0.001)
        before = len(book.looks)
        for job_id in ids:
            book.end(job_id)
        waiter.rang()
        found = await asyncio.gather(*tasks)
        return found, len(book.looks) - before, waiter.waiting

    found, looks, left = waiting(work)
    assert [list(item) for item in found] == [[job_id] for job_id in ids]
    assert all(isinstance(item[job_id], JobCancelled) for item, job_id in zip(found, ids, strict=True))
    assert (looks, left) == (1, 0)


def test_how_a_job_stands_is_found_by_the_look_that_sees_its_end():
    ids = [str(uuid4()) for _ in range(3)]

    async def work(waiter, book):
        whole = [asyncio.create_task(waiter.stands([job_id], 30)) for job_id in ids[:2]]
        end = asyncio.create_task(waiter.ended(ids[2:], 30))
        assert await waiter.stands(ids[:1], 0.01) == {}
        for job_id in ids:
            book.end(job_id)
        waiter.rang()
        return await asyncio.gather(*whole), await end, waiter.waiting

    found, end, left = waiting(work)
    assert [list(item) for item in found] == [[job_id] for job_id in ids[:2]]
    assert all(isinstance(item[job_id], Standing) for item, job_id in zip(found, ids[:2], strict=True))
    assert (list(end), left) == (ids[2:], 0)


def test_what_is_known_is_not_asked_for_again():
    job_id = str(uuid4())

    async def work(waiter, book):
        book.there.add(job_id)
        task = asyncio.create_task(waiter.ended([job_id], 30))
        while not book.looks or book.looks[-1][0] != {job_id}:
            waiter.rang()
            await asyncio.sleep(0.001)
        book.end(job_id)
        waiter.rang()
        return await task

    assert waiting(work)[job_id][0] == "headrace.job.cancelled.v1"


def test_two_may_wait_for_the_same_job_and_one_may_give_up():
    job_id = str(uuid4())

    async def work(waiter, book):
        one = asyncio.create_task(waiter.ends([job_id], 30))
        assert await waiter.ends([job_id], 0.01) == {}
        two = asyncio.create_task(waiter.ends([job_id], 30))
        await asyncio.sleep(0)
        two.cancel()
        await asyncio.sleep(0.01)
        assert waiter.waiting == 1
        book.end(job_id)
        waiter.rang()
        return await one

    assert list(waiting(work)) == [job_id]


def test_a_hint_that_was_lost_costs_the_rest(monkeypatch):
    monkeypatch.setattr(room, "REST", 0.05)
    job_id = str(uuid4())

    async def work(waiter, book):
        task = asyncio.create_task(waiter.ends([job_id], 30))
        while not book.looks:
            await asyncio.sleep(0.001)
        book.end(job_id)
        return await task

    assert list(waiting(work)) == [job_id]


def test_a_ledger_that_is_away_is_asked_again(monkeypatch):
    monkeypatch.setattr(room, "REST", 0.01)
    job_id = str(uuid4())

    async def work(waiter, book):
        book.away = True
        book.end(job_id)
        task = asyncio.create_task(waiter.ends([job_id], 30))
        while waiter.trouble is None:
            await asyncio.sleep(0.001)
        book.away = False
        found = await task
        return found, waiter.trouble

    found, trouble = waiting(work)
    assert (list(found), trouble) == ([job_id], None)


def test_when_it_is_stopped_all_go_on():
    async def work(waiter, _book):
        tasks = [asyncio.create_task(waiter.ends([str(uuid4())], 30)), asyncio.create_task(waiter.taken(["x"], 30))]
        await asyncio.sleep(0.01)
        waiter.drain(0.01)
        return *await asyncio.gather(*tasks), await waiter.ends(["y"], 30), await waiter.turn(30)

    assert waiting(work) == ({}, {}, {}, None)


def test_ends_are_told_as_they_stand():
    job_id = str(uuid4())

    async def work(waiter, book):
        book.end(job_id)
        return await waiter.ended([job_id], 30)

    event_type, value = waiting(work)[job_id]
    assert (event_type, json.loads(value)["job_id"]) == ("headrace.job.cancelled.v1", job_id)
