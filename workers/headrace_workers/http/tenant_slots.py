"""A bound on what one tenant may have under way at a time, so that none takes all places of a process."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from headrace_workers.http.errors import Refusal, Why


class TenantSlots:
    """So many places for each tenant. Belongs to the event loop. `what` names in errors what takes them."""

    def __init__(self, what: str, most: int) -> None:
        self._what = what
        self._most = most
        self._taken: Counter[str] = Counter()

    def take(self, tenant: str) -> None:
        """Take a place, which must be given back. 429 where the tenant has as many as it may."""
        if self._taken[tenant] >= self._most:
            raise Refusal(
                Why.BUSY,
                f"the tenant {tenant} has {self._most} {self._what} under way here, which is the most: wait for one to "
                "end",
                retry_after=1.0,
            )
        self._taken[tenant] += 1

    def give_back(self, tenant: str) -> None:
        """Give a place back."""
        self._taken[tenant] -= 1
        if self._taken[tenant] <= 0:
            del self._taken[tenant]

    @contextmanager
    def taken(self, tenant: str) -> Iterator[None]:
        """Hold a place while the body runs. Raises as `take` does."""
        self.take(tenant)
        try:
            yield
        finally:
            self.give_back(tenant)
