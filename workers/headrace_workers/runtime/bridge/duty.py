"""A duty of the ledger, as a bridge holds it: what one bridge at a time does."""

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ports import Clock

_NEVER = float("-inf")


class Duty:
    """One duty, under a lease of so many `seconds`: so long nobody does it when the bridge that had it was killed.

    Belongs to the thread that does it.
    """

    def __init__(self, name: str, *, ledger: Ledger, bridge: str, clock: Clock, seconds: float) -> None:
        self._name = name
        self._ledger = ledger
        self._bridge = bridge
        self._clock = clock
        self._seconds = seconds
        self.held_until = _NEVER

    def held(self) -> bool:
        """Whether this bridge has it. The ledger is asked when half of the lease is gone. Unavailable."""
        now = self._clock.monotonic()
        if now < self.held_until - self._seconds / 2:
            return True
        mine = self._ledger.hold(self._name, self._bridge, int(self._seconds * 1000))
        self.held_until = now + self._seconds if mine else _NEVER
        return mine

    def let_go(self) -> None:
        """The ledger is asked before this is done again."""
        self.held_until = _NEVER
