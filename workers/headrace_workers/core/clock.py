"""The real clock. Tests hand in one of their own."""

import time
from datetime import UTC, datetime


class SystemClock:
    """Implements `ports.Clock` with this machine's clocks."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()
