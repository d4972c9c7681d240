"""The system's clock. Tests pass one of their own."""

import time
from datetime import UTC, datetime


class SystemClock:
    """Implementation of `ports.Clock` by this machine's clocks."""

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        return time.monotonic()
