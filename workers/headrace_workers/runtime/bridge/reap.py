"""Work that is due by time, done once a second."""

import logging
from collections.abc import Callable, Sequence

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.ports import Clock

_PRUNE_EVERY = 60.0
_COUNT_EVERY = 10.0
_EVERY = 1.0  # s from one look to the next
_LOOKS = 10  # a lease, at least: what is noted so often tells a gap well enough


class Reap:
    """Reaper that takes back lost work, ends expired jobs and deletes old rows.

    `retention` (seconds) is that of jobs and units. `pass_over` moves on what waits for a worker that is not there, and
    returns how many. What was held for `hold` seconds is withheld. Each of `upkeep` is what a feature does once a
    minute, a bounded part of it at each call; it returns whether there is more.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: Clock,
        lease_ms: int,
        max_crashes: int,
        retention: float,
        hold: float = 7 * 86_400.0,
        pass_over: Callable[[], int] = lambda: 0,
        upkeep: Sequence[Callable[[], object]] = (),
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lease_ms = lease_ms
        self._max_crashes = max_crashes
        self._retention_ms = int(retention * 1000)
        self._upkeep = tuple(upkeep)
        self._hold_ms = int(hold * 1000)
        self._pass_over = pass_over
        self._pruned_at = self._counted_at = self._held_at = clock.monotonic()
        self._kept_up_at = [self._pruned_at] * len(self._upkeep)
        self._looked_at = float("-inf")
        self.rest = _EVERY  # seconds to the next look

    def once(self) -> int:
        """Look once; how many steps became ready or dead by it."""
        self.rest = _EVERY
        due = self._ledger.due()
        if due.leases or self._clock.monotonic() - self._looked_at > self._lease_ms / 1000 / _LOOKS:
            self._look()
        total = self._reap() if due.leases or due.steps else 0
        total += self._pass_over()
        counts = self._clock.monotonic() - self._counted_at > _COUNT_EVERY
        if counts and not self._ledger.account():
            self._counted_at = self._clock.monotonic()
        prunes = self._clock.monotonic() - self._pruned_at > _PRUNE_EVERY
        if prunes and not self._ledger.prune(self._retention_ms):
            self._pruned_at = self._clock.monotonic()
        for place, keep_up in enumerate(self._upkeep):
            keeps_up = self._clock.monotonic() - self._kept_up_at[place] > _PRUNE_EVERY
            if keeps_up and not keep_up():
                self._kept_up_at[place] = self._clock.monotonic()
        withholds = self._clock.monotonic() - self._held_at > _COUNT_EVERY
        if withholds and not self._ledger.withhold_late(self._hold_ms):
            self._held_at = self._clock.monotonic()
        return total

    def _look(self) -> None:
        """Note that a bridge looks. Leases are put off before any is taken back."""
        gap = self._ledger.look(self._lease_ms)
        self._looked_at = self._clock.monotonic()
        if gap < 0:
            text = "the database's clock went back: leases by the old time were shortened by as much"
            log("reap", logging.WARNING, Action.LEASES_PUT_OFF, text, ms=-gap)
        elif gap:
            # On a busy machine a look comes late now and then.
            level = logging.WARNING if gap > self._lease_ms / 3 else logging.DEBUG
            log("reap", level, Action.LEASES_PUT_OFF,
                "no bridge had looked, or the database's clock jumped: leases were extended", ms=gap)  # fmt: skip

    def _reap(self) -> int:
        reaped = self._ledger.reap(self._max_crashes)
        self.rest = 0.0 if reaped.more else _EVERY
        lost = reaped.unstarted + reaped.crashed + reaped.poison
        if lost:
            log("reap", logging.WARNING, Action.REAPED, "leases ran out", unstarted=reaped.unstarted,
                crashed=reaped.crashed, poison=reaped.poison)  # fmt: skip
        return lost + reaped.promoted + reaped.expired
