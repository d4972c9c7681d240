"""Checks of requests that take time: they compile formats, each in a process of its own, and count tokens."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from headrace_schemas.errors import Unavailable
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.tenant_slots import Slot, TenantSlots

THREADS: Final = 4  # so many processes compile formats at a time
AT_A_TIME: Final = 3  # of one tenant: fewer than there are threads

T = TypeVar("T")


class Examinations:
    """Checks on threads of their own, so that calls of the ledger never wait for them. Belongs to the event loop.

    A check has to begin within `patience` seconds.
    """

    def __init__(self, patience: float) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "examine")
        self._slots = TenantSlots("checks", AT_A_TIME)
        self._patience = patience

    async def run(self, tenant: str, check: Callable[[], T]) -> T:
        """Return what a check returns, and raise what it raises. Raise 429 where the tenant's other checks take so long
        that it cannot begin, and 503 where the machine is too busy for it.
        """
        loop = asyncio.get_running_loop()
        try:
            slot = await self._slots.wait(tenant, loop.time() + self._patience)
        except TimeoutError:
            raise Refusal(
                Why.BUSY,
                f"the tenant {tenant} has too many jobs under way here whose formats, tools or lengths are being "
                "checked: send fewer at a time, or repeat formats, which are checked once",
                retry_after=1.0,
            ) from None
        running = loop.run_in_executor(self._threads, check)
        # A check that nobody waits for any more still has its thread, and so keeps its tenant's place.
        running.add_done_callback(partial(_ended, slot))
        try:
            return await asyncio.shield(running)
        except Unavailable as error:
            raise Refusal(Why.MACHINE_BUSY, str(error), retry_after=1.0) from error


def _ended(slot: Slot, check: "asyncio.Future[T]") -> None:
    slot.release()
    if not check.cancelled():
        check.exception()  # looked at, so that asyncio does not log what a client that left would have been told
