"""The clock that code is handed: the system's, or one of a test."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time, handed in."""

    def now(self) -> datetime:
        """Return the wall clock, in UTC."""

    def monotonic(self) -> float:
        """Return seconds that never jump."""


class SystemClock:
    """Implementation of `Clock` by this machine's clocks."""

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        return time.monotonic()
