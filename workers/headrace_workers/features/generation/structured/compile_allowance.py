"""A limit on the time that a tenant's formats take to be checked. A format is checked before its job is taken in:
without a limit, many slow formats of one tenant would hold up the jobs of all.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final

from headrace_schemas.errors import Category, HeadraceError

ALLOWANCE: Final = 10.0  # CPU seconds a minute
FREE: Final = 0.05  # seconds of each format that do not count: real schemas take 0.004, and 0.012 at most
_MINUTE: Final = 60.0
_TENANTS: Final = 10_000


class FormatsTooSlow(HeadraceError):
    """A new format of a tenant whose formats have taken too long to be checked in the last minute."""

    category = Category.QUOTA


class CompileAllowance:
    """The CPU time that each tenant has used lately; it fades as time goes by. Thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = Lock()
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()  # seconds, and when they were noted

    def check(self, tenant: str) -> None:
        """Raise FormatsTooSlow where a tenant has used up its allowance."""
        with self._lock:
            over = self._used_by(tenant) - ALLOWANCE
        if over >= 0:
            wait = round(over * _MINUTE / ALLOWANCE) + 1
            raise FormatsTooSlow(
                f"new formats of the tenant {tenant} took more than {ALLOWANCE:g} s of CPU time to be checked: send "
                f"this one again in {wait} s, with a simpler schema or fewer different ones; a format that was checked "
                "before is taken at once"
            )

    def use(self, tenant: str, seconds: float) -> None:
        """Note the CPU seconds that a new format of a tenant took."""
        if seconds <= FREE:
            return
        with self._lock:
            self._used[tenant] = (self._used_by(tenant) + seconds - FREE, self._monotonic())
            self._used.move_to_end(tenant)
            if len(self._used) > _TENANTS:
                self._used.popitem(last=False)

    def _used_by(self, tenant: str) -> float:
        used, noted = self._used.get(tenant, (0.0, 0.0))
        return max(0.0, used - (self._monotonic() - noted) * ALLOWANCE / _MINUTE)
