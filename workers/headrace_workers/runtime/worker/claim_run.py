"""The run of one claim: start it, run the step over the whole group, complete it.

No claim stays begun by a worker that has released it: that would look like the worker's death, and count against its
jobs.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from headrace_schemas.errors import Unavailable
from headrace_workers.core.clock import Clock
from headrace_workers.core.ledger.completion import Completed, CompletedTogether, RunOver, StepResult
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import Outgoing
from headrace_workers.core.ledger.steps import BATCH, INTERACTIVE
from headrace_workers.core.log import Action, log
from headrace_workers.core.outage import awaited
from headrace_workers.core.progress import Progress
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.assignment import COMPANY, Assigner, FollowUp, behind
from headrace_workers.runtime.wire.hints import Hint, Notifier
from headrace_workers.runtime.worker.renew import Renewer
from headrace_workers.runtime.worker.runs import Runs
from headrace_workers.runtime.worker.work import Work

# Completions of a worker's claims: runs that are over while another completion is being written are written together.
#
# A remote model answers its calls one by one. Under load each transaction, message and hint so serves several of them;
# a run that is over alone is written at once.

_FEW = 8  # ends: the bridge reports more of them, many at once
_AT_ONCE = 32  # claims in one transaction


@dataclass(slots=True, eq=False)
class _Waiting:
    """A run that waits to be written, and what came of that."""

    run: RunOver
    lane: int
    is_over: bool = False
    completed: Completed | None = None
    error: BaseException | None = None


class CompletionWriter:
    """Writer of completions, one transaction at a time. Thread-safe.

    `insist` repeats a call while the ledger is unavailable.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        assigner: Assigner,
        follow_up: FollowUp,
        notifier: Notifier,
        insist: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self._ledger = ledger
        self._assigner = assigner
        self._follow_up = follow_up
        self._notifier = notifier
        self._insist = insist
        self._waiting: deque[_Waiting] = deque()
        self._lock = threading.Lock()  # of those that wait
        self._turn = threading.Lock()  # of the thread that writes

    def write(self, run: RunOver, lane: int) -> Completed | None:
        """Write what came of a claim of this lane, send on what follows, and notify who waits for it. Return None when
        the lease was lost. Raise what writing this claim raised.
        """
        mine = _Waiting(run, lane)
        with self._lock:
            self._waiting.append(mine)
        with self._turn:  # mostly another thread has written it meanwhile
            while not mine.is_over:
                self._write(self._next())
        if mine.error is not None:
            raise mine.error
        return mine.completed

    def _next(self) -> list[_Waiting]:
        """Return the runs that are written next, of different jobs."""
        taken: list[_Waiting] = []
        jobs: set[str] = set()
        with self._lock:
            while self._waiting and len(taken) < _AT_ONCE:
                theirs = {item.job_id for item in self._waiting[0].run.settled}
                if jobs & theirs:
                    break
                jobs |= theirs
                taken.append(self._waiting.popleft())
        return taken

    def _write(self, group: Sequence[_Waiting]) -> None:
        try:
            done = self._complete([item.run for item in group], is_batch=all(item.lane == BATCH for item in group))
        except Exception as error:
            if len(group) > 1 and not isinstance(error, Unavailable):  # one that cannot be written fails alone
                for item in group:
                    self._write([item])
                return
            for item in group:
                item.error = error
        else:
            for item in group:
                item.completed = done.of.get(item.run.claim_id)
        finally:
            for item in group:
                item.is_over = True

    def _complete(self, runs: Sequence[RunOver], *, is_batch: bool) -> CompletedTogether:
        room = self._assigner.room(behind([item for run in runs for item in run.settled]))
        done: CompletedTogether = self._insist(lambda: self._ledger.complete_together(runs, room))
        self._assigner.send(done.assigned)
        if done.of:
            self._tell(
                [end for completed in done.of.values() for end in completed.ended], next(iter(done.of.values())).now
            )
            self._notifier.notify(*_hints(runs, done, is_batch=is_batch))
        return done

    def _tell(self, ends: Sequence[Outgoing], now: int) -> None:
        """Notify clients that wait for these ends at once, before bridges begin to publish them. Bridges notify if this
        fails, and where there are many.
        """
        if not 0 < len(ends) <= _FEW:
            return
        try:
            self._follow_up.once(ends, now)
        except Unavailable:
            pass
        except Exception:
            logging.getLogger("headrace.run").exception("ends are told later", extra={"action": Action.STEP_FAILED})


def _hints(runs: Sequence[RunOver], done: CompletedTogether, *, is_batch: bool) -> tuple[Hint, ...]:
    """Return the hints of what may be there now: room in the queues, steps and events."""
    if is_batch and sum(len(run.settled) for run in runs) < COMPANY:
        return Hint.TRICKLE, Hint.EVENTS
    return (Hint.WORK, Hint.EVENTS) if done.assigned else (Hint.WORK, Hint.EVENTS, Hint.ENDS)


T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between two tries
_ENDED = (Hint.WORK, Hint.EVENTS, Hint.ENDS)
_NO_ROOM_MS = 1_000
_UNKNOWN_STAGE_SECONDS = 10.0  # at most, until it is offered to another worker


class Runner:
    """A worker's hands: the work that it can do, and the ledger. Thread-safe."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        work: Work,
        settings: Settings,
        renewer: Renewer,
        runs: Runs,
        assigner: Assigner,
        follow_up: FollowUp,
        notifier: Notifier,
        clock: Clock,
        worker: str,
        progress: Progress,
    ) -> None:
        self._ledger = ledger
        self._work = work
        self._settings = settings
        self._renewer = renewer
        self._runs = runs
        self._notifier = notifier
        self._clock = clock
        self._worker = worker
        self._completions = CompletionWriter(
            ledger=ledger, assigner=assigner, follow_up=follow_up, notifier=notifier, insist=self._insist
        )
        self._progress = progress
        self._random = random.Random()
        self._leaving_until: float | None = None

    def run(self, claim_id: int) -> None:
        """Run a claim, once. One that is no longer ours, or that runs here already, is passed over in silence."""
        with self._renewer.renewing(claim_id) as mine:
            if not mine:
                return
            try:
                started = self._insist(lambda: self._start(claim_id))
            except Unavailable:
                self._renewer.give_up(claim_id)  # it may have begun, and the answer was lost
                return
            if started is None:
                self._notifier.notify(Hint.WORK)  # there is room in the queue again
                return
            if not self._finish(started):
                self._notifier.notify(*_ENDED)  # there is room in the queue, and there may be steps and events

    def leave(self) -> None:
        """Prepare for the end of this process: a ledger that is unavailable is waited for no longer than a lease from
        now.
        """
        self._leaving_until = self._clock.monotonic() + self._settings.lease
        self._runs.leaving.set()

    def give_back(self) -> int:
        """Give back unfinished work, and work that was passed on and not begun, at a stop; return the number of
        steps.
        """
        steps = self._renewer.give_back()  # which notifies the bridges
        unstarted = self._ledger.release_unstarted(self._worker)
        if unstarted:
            self._notifier.notify(Hint.WORK)
        return steps + unstarted

    def postpone(self, claim_id: int) -> None:
        """Give a claim back that there is no room for at the moment: its steps come back in a while, here or
        elsewhere.
        """
        try:
            self._ledger.release([claim_id], _NO_ROOM_MS, "its worker had its hands full")
        except Unavailable:
            self._renewer.give_up(claim_id)

    def complain(self, trouble: str) -> None:
        """Let people see in `headrace status`, for a minute, what is wrong with this worker's surroundings."""
        with suppress(Unavailable):
            self._ledger.tell(self._worker, "worker", {"": trouble})

    def _start(self, claim_id: int) -> Started | None:
        return self._ledger.start(claim_id, worker=self._worker, lease_ms=self._settings.lease_ms)

    def _finish(self, started: Started) -> bool:
        """Run what was begun, and write the results; return True if that was written, and bridges notified."""
        try:
            if not self._work.knows(started):
                self._pass_on(started)
                return False
            begun = self._clock.monotonic()
            settled = self._runs.do(started, self._work.do)
            completed = self._write(started, settled, int((self._clock.monotonic() - begun) * 1000))
            if completed is not None:
                self._tell_costs(started, [item for item in settled if item.job_id in completed.thrown_away])
                return True
            self._come_back(started)
            self._tell_costs(started, settled)
        except Unavailable:  # and we are to leave
            self._renewer.give_up(started.claim_id)
        except Exception as error:
            self._fail(started, error)
        return False

    def _write(self, started: Started, settled: list[StepResult], ran_ms: int) -> Completed | None:
        quantum_ms = int(self._work.quantum(started.stage) * 1000)
        lane = started.steps[0].lane if started.steps else INTERACTIVE
        return self._completions.write(RunOver(started.claim_id, settled, ran_ms, quantum_ms), lane)

    def _pass_on(self, started: Started) -> None:
        """Leave a stage that only a newer version knows to a worker that does: its steps wait, and were not tried
        here.
        """
        reason = f"worker {self._worker} does not know the stage {started.stage!r} of the queue {started.queue!r}"
        log("run", logging.WARNING, Action.GIVEN_BACK, f"{reason}: its work waits for one that does",
            claim=started.claim_id, steps=len(started.steps))  # fmt: skip
        delay_ms = int(self._random.uniform(0.5, 1) * _UNKNOWN_STAGE_SECONDS * 1000)
        self._insist(lambda: self._ledger.release([started.claim_id], delay_ms, reason))

    def _come_back(self, started: Started) -> None:
        """Handle a claim that had ended: its lease ran out, or the answer to its completion was lost."""
        log("run", logging.WARNING, Action.LEASE_LOST, "the claim had ended before: nothing more was written",
            claim=started.claim_id, steps=len(started.steps))  # fmt: skip
        jobs = [row.job_id for row in started.steps]
        self._insist(lambda: self._ledger.acquit(started.stage, jobs))

    def _tell_costs(self, started: Started, thrown_away: Sequence[StepResult]) -> None:
        """Tell the ledger what the calls of models cost whose answers are of no use any more. It has charged lost calls
        with the most that they may have cost.
        """
        if paid := {item.job_id: item.paid for item in thrown_away if item.paid is not None}:
            self._insist(lambda: self._ledger.learn_costs(started.claim_id, paid))

    def _fail(self, started: Started, error: Exception) -> None:
        """Count an attempt for what was raised outside the step, such as by the ledger. The steps come back at
        different times, so that one that cannot be written soon stands alone.
        """
        logging.getLogger("headrace.run").exception("a claim failed", extra={"action": Action.STEP_FAILED})
        reason = f"its worker failed with {type(error).__name__}; see the worker's log"
        try:
            self._write(started, self._work.fail(started, reason), 0)
        except Exception:
            logging.getLogger("headrace.run").exception("it cannot be put off", extra={"action": Action.STEP_FAILED})
            self._renewer.give_up(started.claim_id)

    def _insist(self, act: Callable[[], T]) -> T:
        """Try again while the ledger is unavailable: a worker's answers are expensive, and without the ledger there is
        nothing to do.
        """
        who, waits_for, pause = f"run.{threading.current_thread().name}", None, _FIRST_PAUSE
        while True:
            try:
                value = act()
            except Unavailable as error:
                if self._leaving_until is not None and self._clock.monotonic() > self._leaving_until:
                    raise
                before, waits_for = waits_for, awaited(error)
                self._progress.tell(who, before, waits_for)
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
            else:
                if waits_for is not None:
                    self._progress.tell(who, waits_for, None)
                return value
