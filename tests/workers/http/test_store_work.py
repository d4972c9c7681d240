"""Work with the file store: a few things of each tenant at a time, and nothing that nobody waits for."""

import asyncio
import socket
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import zstandard
from tests.services.eventually import eventually
from tests.workers.http.served import Gateway

from headrace_workers.core import text_file
from headrace_workers.features.files.store_work import EACH, NobodyWaits, NoPlace, StoreWork


def test_a_tenant_that_does_much_leaves_room_for_others():
    """Its own other work waits, and is told where that takes too long."""

    async def run() -> None:
        with ThreadPoolExecutor(EACH + 1) as threads:
            store, held, began = StoreWork(threads), threading.Event(), threading.Semaphore(0)

            def hold(_: object) -> str:
                began.release()
                held.wait(60)
                return "done"

            try:
                first = [asyncio.create_task(store.do("a", hold, 60)) for _ in range(EACH)]
                for _ in first:
                    await asyncio.to_thread(began.acquire)
                with pytest.raises(NoPlace):
                    await store.do("a", lambda _: "never", 0.2)
                assert await store.do("b", lambda _: "b's", 60) == "b's"
                waiting = asyncio.create_task(store.do("a", lambda _: "a's", 60))
            finally:
                held.set()
            assert await asyncio.gather(*first, waiting) == ["done"] * EACH + ["a's"]

    asyncio.run(run())


def test_a_place_is_taken_until_its_work_has_ended():
    """Also where nobody waits for that any more: a store that is silent would have all threads."""

    async def run() -> None:
        with ThreadPoolExecutor(4) as threads:
            store, held = StoreWork(threads, each=1), threading.Event()
            try:
                with pytest.raises(TimeoutError):
                    await store.do("a", lambda _: held.wait(60), 0.2)
                with pytest.raises(NoPlace):
                    await store.do("a", lambda _: "never", 0.2)
            finally:
                held.set()
            assert await store.do("a", lambda _: "now", 60) == "now"

    asyncio.run(run())


def test_work_that_nobody_waits_for_is_told_so():
    ended: list[Exception] = []

    def work(goes_on) -> None:
        goes_on()
        began.set()
        try:
            while not stopped.is_set():
                goes_on()
        except NobodyWaits as error:
            ended.append(error)

    async def run() -> None:
        with ThreadPoolExecutor(1) as threads:
            task = asyncio.create_task(StoreWork(threads).do("a", work, 60))
            await asyncio.to_thread(began.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            try:
                await asyncio.to_thread(eventually, lambda: ended)
            finally:
                stopped.set()

    began, stopped = threading.Event(), threading.Event()
    asyncio.run(run())


class Large:
    """What some work holds."""


def test_work_that_failed_holds_nothing_any_more():
    held: list[weakref.ref[Large]] = []

    def work(_: object) -> None:
        large = Large()
        held.append(weakref.ref(large))
        raise ValueError(len(held))

    async def run() -> None:
        with ThreadPoolExecutor(1) as threads, pytest.raises(ValueError, match="1") as caught:
            await StoreWork(threads).do("a", work, 60)
        assert caught.value.__traceback__ is not None
        assert held[0]() is None

    asyncio.run(run())


def test_the_lines_of_a_file_whose_sender_has_hung_up_are_counted_no_further(
    alone: Gateway, monkeypatch: pytest.MonkeyPatch
):
    for bound in ("MOST_TEXT", "MOST_LINES", "DENSE_TEXT"):
        monkeypatch.setattr(text_file, bound, 2**62)
    line = b"x" * 100_000 + b"\n"
    frame = zstandard.compress(line * 1_000)
    form = httpx.Request(
        "POST", alone.url, data={"purpose": "batch"}, files={"file": ("jobs.jsonl", frame * 600)}
    )  # sixty gigabytes of text
    host, _, port = alone.url.removeprefix("http://").partition(":")
    head = [
        "POST /v1/files HTTP/1.1", "Host: x", f"Authorization: Bearer {alone.key()}",
        f"Content-Type: {form.headers['content-type']}", f"Content-Length: {form.headers['content-length']}",
    ]  # fmt: skip
    folder = alone.settings.home / "files"
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + form.read())
        eventually(lambda: list(folder.rglob(".unfinished-*")))
    eventually(lambda: not list(alone.services.of(StoreWork)._slots._tenants))
    assert not [path for path in folder.rglob("*") if path.is_file()]
