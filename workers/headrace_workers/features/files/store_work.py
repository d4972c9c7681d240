"""Work with the file store: each tenant does a few things at a time, and work that nobody waits for is broken off."""

import asyncio
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Final, TypeAlias, TypeVar

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.http.limits import Slot, TenantSlots

EACH: Final = 3  # things that one tenant does at a time; there are eight threads for all

GoesOn: TypeAlias = Callable[[], object]
T = TypeVar("T")


class NobodyWaits(HeadraceError):
    """Work that nobody waits for any more: the client has hung up, or was answered that it took too long."""

    category = Category.PERMANENT


class NoPlace(HeadraceError):
    """A tenant's other work took all the time that there was."""

    category = Category.TRANSIENT


class StoreWork:
    """Work on the threads of an executor. Belongs to an event loop."""

    def __init__(self, threads: Executor, each: int = EACH) -> None:
        self._threads = threads
        self._each = each
        self._slots = TenantSlots("files", each)

    async def do(self, tenant: str, work: Callable[[GoesOn], T], seconds: float) -> T:
        """Do some work, and return its result. Raises NoPlace, TimeoutError.

        The work is given a function to call now and then. It raises NobodyWaits as soon as this is cancelled, or its
        time is over: until then the tenant's slot is taken.
        """
        until = asyncio.get_running_loop().time() + seconds
        try:
            slot = await self._slots.wait(tenant, until)
        except TimeoutError:
            raise NoPlace(f"{self._each} files of this tenant are being worked on, for {seconds:.0f} s") from None
        async with asyncio.timeout_at(until):
            return await self._on_thread(slot, work)

    async def _on_thread(self, slot: Slot, work: Callable[[GoesOn], T]) -> T:
        loop, over = asyncio.get_running_loop(), threading.Event()

        def goes_on() -> None:
            if over.is_set():
                raise NobodyWaits("nobody waits for this any more")

        def run() -> T:
            try:
                return work(goes_on)
            except BaseException as error:
                # What it held may be megabytes, such as a decoder and a text, and the error lives on in cycles.
                traceback.clear_frames(error.__traceback__)
                raise

        def leave(_future: object) -> None:
            with suppress(RuntimeError):  # the loop is closed, and nobody needs the slot
                loop.call_soon_threadsafe(slot.release)

        try:
            future = self._threads.submit(run)
        except BaseException:
            slot.release()
            raise
        future.add_done_callback(leave)
        try:
            return await asyncio.wrap_future(future)
        finally:
            over.set()
