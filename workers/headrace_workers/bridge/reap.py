"""What time brings about, once a second."""

import logging

from headrace_workers.ledger.ledger import Ledger
from headrace_workers.log import Action, log
from headrace_workers.ports import Clock

_PRUNE_EVERY = 60.0


class Reap:
    """Takes back lost work, ends what expired, forgets what is old."""

    def __init__(self, *, ledger: Ledger, clock: Clock, lease_ms: int, max_crashes: int, retention: float) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lease_ms = lease_ms
        self._max_crashes = max_crashes
        self._retention_ms = int(retention * 1000)
        self._pruned_at = clock.monotonic()

    def once(self) -> int:
        """Look once; how many steps became ready or dead by it."""
        if gap := self._ledger.look(self._lease_ms):
            # On a busy machine a look comes late now and then.
            level = logging.WARNING if gap > self._lease_ms / 3 else logging.DEBUG
            log("reap", level, Action.LEASES_PUT_OFF,
                "no bridge had looked, or the database's clock jumped: leases were put off", ms=gap)  # fmt: skip
        reaped = self._ledger.reap(self._max_crashes)
        total = reaped.unstarted + reaped.crashed + reaped.poison
        if total:
            log("reap", logging.WARNING, Action.REAPED, "leases ran out", unstarted=reaped.unstarted,
                crashed=reaped.crashed, poison=reaped.poison)  # fmt: skip
        due = self._clock.monotonic() - self._pruned_at > _PRUNE_EVERY
        if due and not self._ledger.prune(self._retention_ms):
            self._pruned_at = self._clock.monotonic()
        return total
