"""The ledger's clock, asked now and then."""

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ports import Clock

_ASK_EVERY = 1.0  # seconds; its users need no finer time


class LedgerTime:
    """Time by the ledger's clock. Belongs to one thread."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._last_read: tuple[int, float] | None = None  # what it said (ms), and when by ours

    def ms(self) -> int:
        """Return the ms since 1970."""
        now = self._clock.monotonic()
        if self._last_read is None or now - self._last_read[1] > _ASK_EVERY:
            self._last_read = self._ledger.now(), now
        ms, at = self._last_read
        return ms + int((now - at) * 1000)

    def ask_anew(self) -> None:
        """Ask the ledger at the next call."""
        self._last_read = None
