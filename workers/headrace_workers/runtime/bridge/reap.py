"""Work that is due by time, done once a second."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from headrace_schemas import HeadraceError
from headrace_schemas.codec import decode_job
from headrace_schemas.job import Job
from headrace_workers.core.clock import Clock
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.unserved_steps import Move, Stay
from headrace_workers.core.log import Action, log
from headrace_workers.core.pipeline.chain import with_chain
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import Stage, Weight
from headrace_workers.core.pipeline.task import pack, unpack

_LONGEST_MS = 1_500  # that something waits before anybody asks whether there is a worker


class StageSkipper:
    """Mover of jobs that wait at their first stage for a worker that is missing and that they can do without; for the
    others it notes what they wait for. It ignores what a model runs. `served` returns which of these queues have a
    worker.
    """

    def __init__(
        self, *, ledger: Ledger, pipeline: Pipeline, served: Callable[[list[str]], frozenset[str] | None]
    ) -> None:
        self._ledger = ledger
        self._pipeline = pipeline
        self._served = served
        self._first = [stage for stage in pipeline.stages if _is_first(stage)]

    def once(self) -> int:
        """Look once; how many jobs went on."""
        late = [stage for stage in self._first if self._ledger.waits(stage.queue(), _LONGEST_MS)]
        if not late:
            return 0
        served = self._served([stage.queue() for stage in late])
        if served is None:  # Redis is unavailable, so the answer is unknown
            return 0
        return sum(self._pass(stage) for stage in late if stage.queue() not in served)

    def _pass(self, stage: Stage) -> int:
        reason = f"{_nobody(stage)}, which this job needs: `headrace worker --role {stage.role}` starts one"
        moved = self._ledger.move_on(stage.name, stage.queue(), lambda row: self._move(stage, row), reason)
        if moved:
            log("reap", logging.WARNING, Action.PASSED_OVER,
                f"no worker with --role {stage.role} runs: jobs went on without", jobs=moved)  # fmt: skip
        return moved

    def _move(self, stage: Stage, row: Any) -> Move | Stay | None:
        try:
            context, unpublished = unpack(row.context)
            job = with_chain(decode_job(row.kind, row.payload), context)
        except HeadraceError:  # a newer version's: its own bridge and workers know what to do
            return None
        if not stage.optional(job):
            return Stay(row.job_id, row.ordinal)
        route = self._pipeline.next_step(row.job_id, job, job, after=stage.name)
        if route is None:
            return None
        changed = pack({**context, stage.name: {"refused": _nobody(stage)}}, unpublished)
        return Move(row.job_id, row.ordinal, route.stage.name, route.queue, route.group, changed, route.prefix)


def _is_first(stage: Stage) -> bool:
    """Return True if jobs begin here, and no model runs it."""
    return stage.weight is not Weight.MODEL and any(issubclass(kind, Job) for kind in stage.takes)


def _nobody(stage: Stage) -> str:
    return f"no worker with the role {stage.role} was running"


PRUNE_EVERY = 60.0
COUNT_EVERY = 10.0
_EVERY = 1.0  # s from one look to the next
_LOOKS = 10  # a lease, at least: what is noted so often tells a gap well enough


class Reap:
    """Reaper that takes back lost work, ends expired jobs and deletes old rows.

    `retention` (seconds) is that of jobs and units. `pass_over` moves on what waits for a worker that is not there, and
    returns how many. Answers that were held for `hold` seconds are withheld. Each of `upkeep` is what a feature does
    once a minute, a bounded part of it at each call; it returns whether there is more.
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
        counts = self._clock.monotonic() - self._counted_at > COUNT_EVERY
        if counts and not self._ledger.account():
            self._counted_at = self._clock.monotonic()
        prunes = self._clock.monotonic() - self._pruned_at > PRUNE_EVERY
        if prunes and not self._ledger.prune(self._retention_ms):
            self._pruned_at = self._clock.monotonic()
        for place, keep_up in enumerate(self._upkeep):
            keeps_up = self._clock.monotonic() - self._kept_up_at[place] > PRUNE_EVERY
            if keeps_up and not keep_up():
                self._kept_up_at[place] = self._clock.monotonic()
        withholds = self._clock.monotonic() - self._held_at > COUNT_EVERY
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
