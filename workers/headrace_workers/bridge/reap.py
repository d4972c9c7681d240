"""What time brings about, once a second; and the guard against clocks that jump."""

import logging

from headrace_workers.ledger.ledger import Ledger
from headrace_workers.log import Action, log
from headrace_workers.ports import Clock

_JUMP = 1.0  # seconds by which the database's clock may run ahead of ours between two looks
_PRUNE_EVERY = 60.0


def jump(database_ms: int, monotonic_s: float, tolerance_s: float = _JUMP) -> int:
    """By how many ms the database's clock went forward more than time did; 0 within the tolerance."""
    ahead = database_ms - int(monotonic_s * 1000)
    return ahead if ahead > tolerance_s * 1000 else 0


class Reap:
    """Takes back lost work, ends what expired, forgets what is old."""

    def __init__(self, *, ledger: Ledger, clock: Clock, lease_ms: int, max_crashes: int, retention: float) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lease_ms = lease_ms
        self._max_crashes = max_crashes
        self._retention_ms = int(retention * 1000)
        self._seen: tuple[int, float] | None = None
        self._pruned_at = clock.monotonic()

    def once(self) -> int:
        """Look once; how many steps became ready or dead by it."""
        self._guard_clock()
        reaped = self._ledger.reap(self._max_crashes)
        total = reaped.unstarted + reaped.crashed + reaped.poison
        if total:
            log("reap", logging.WARNING, Action.REAPED, "leases ran out", unstarted=reaped.unstarted,
                crashed=reaped.crashed, poison=reaped.poison)  # fmt: skip
        due = self._clock.monotonic() - self._pruned_at > _PRUNE_EVERY
        if due and not self._ledger.prune(self._retention_ms):  # it forgets a bounded number at a time
            self._pruned_at = self._clock.monotonic()
        return total

    def _guard_clock(self) -> None:
        """A jump of the database's clock must not look like time in which workers were silent."""
        before, seen = self._seen, (self._ledger.now(), self._clock.monotonic())
        self._seen = seen
        if before and (ahead := jump(seen[0] - before[0], seen[1] - before[1])):
            self._ledger.extend_leases(ahead, self._lease_ms)
            log("reap", logging.WARNING, Action.CLOCK_JUMPED, "the database's clock jumped: leases put off", ms=ahead)
