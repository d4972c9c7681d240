"""A bound on what one tenant may have under way at a time, so that none takes all slots of a process."""

import asyncio
from typing import TypeAlias
from weakref import WeakValueDictionary

from headrace_workers.http.errors import Refusal, Why

Slot: TypeAlias = asyncio.Semaphore  # `release` gives it back


class TenantSlots:
    """The slots of each tenant for one kind of work, which `what` names in errors. Belongs to the event loop."""

    def __init__(self, what: str, most: int) -> None:
        self._what = what
        self._most = most
        self._tenants: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def take(self, tenant: str) -> Slot:
        """Take a slot, which must be released. Raise 429 where the tenant has as many as it may."""
        slots = self._of(tenant)
        if slots.locked():
            raise Refusal(
                Why.BUSY,
                f"the tenant {tenant} has {self._most} {self._what} under way here, which is the limit: wait until "
                "one ends",
                retry_after=1.0,
            )
        await slots.acquire()
        return slots

    async def wait(self, tenant: str, until: float) -> Slot:
        """Wait for a slot, which must be released. Raise TimeoutError where none is free by this time of the loop."""
        slots = self._of(tenant)
        async with asyncio.timeout_at(until):
            await slots.acquire()
        return slots

    def _of(self, tenant: str) -> asyncio.Semaphore:
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = asyncio.Semaphore(self._most)
        return found
