"""Running one claim: start, run the step over the whole group, complete. All that a worker does.

Whatever happens, no claim stays begun by a worker that has let go of it: that would look like the worker's death, and
count against its jobs.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

from headrace_schemas import Category
from headrace_schemas.errors import InvalidRecord, Unavailable
from headrace_workers.away import awaited
from headrace_workers.hand_over import HandOver
from headrace_workers.isolate import Step, run_isolated, unreadable
from headrace_workers.ledger.complete import Completed, Settled
from headrace_workers.ledger.hand_on import Onward
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.ledger.start import Started, StepRow, continued
from headrace_workers.log import Action, log
from headrace_workers.outcome import Outcome
from headrace_workers.ports import Clock
from headrace_workers.progress import Progress
from headrace_workers.renew import Renewer
from headrace_workers.settings import Settings
from headrace_workers.settle import Conditions, buried, failed, settle, task_of
from headrace_workers.task import Task
from headrace_workers.wake import Bell, Hint

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between two tries
_UNKNOWN_STAGE_SECONDS = 10.0  # at most, until it is offered to another worker


class Runner:
    """A worker's hands: the steps that it can do, by queue and stage, and the ledger. Thread-safe."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        steps: Mapping[tuple[str, str], Step],
        settings: Settings,
        renewer: Renewer,
        hand_over: HandOver,
        bell: Bell,
        clock: Clock,
        worker: str,
        progress: Progress,
    ) -> None:
        self._ledger = ledger
        self._steps = steps
        self._settings = settings
        self._renewer = renewer
        self._bell = bell
        self._clock = clock
        self._worker = worker
        self._hand_over = hand_over
        self._progress = progress
        self._random = random.Random()
        self._leaving_until: float | None = None

    def run(self, claim_id: int) -> None:
        """Run a claim, once. One that is no longer ours, or that runs here already, is passed over in silence."""
        with ExitStack() as leases:
            if not leases.enter_context(self._renewer.renewing(claim_id)):
                return
            try:
                started = self._insist(lambda: self._start(claim_id))
            except Unavailable:
                self._renewer.let_go(claim_id)  # it may have begun, and the answer was lost
                return
            if started is None:
                self._bell.ring(Hint.WORK)  # there is room in the queue again
                return
            begun = [started]
            for each in begun:  # it grows by what follows
                for kept in self._finish(each):
                    leases.enter_context(self._renewer.renewing(kept.claim_id))
                    begun.append(kept)

    def leave(self) -> None:
        """This process is to end: a ledger that is away is waited for no longer than a lease from now."""
        self._leaving_until = self._clock.monotonic() + self._settings.lease

    def give_back(self) -> int:
        """Hand back what is unfinished, or was handed on and not begun, at a stop; the number of steps."""
        return self._renewer.give_back() + self._ledger.release_unstarted(self._worker)

    def _start(self, claim_id: int) -> Started | None:
        return self._ledger.start(claim_id, worker=self._worker, lease_ms=self._settings.lease_ms)

    def _finish(self, started: Started) -> list[Started]:
        """Run what was begun and write what came of it; what follows from it and was kept, begun already."""
        try:
            if (started.queue, started.stage) not in self._steps:
                self._pass_on(started)
                return []
            done = self._complete(started)
            if done is None:
                return self._come_back(started)
            self._hand_over.send(done.handed_on.sent)
            kept = [continued(started, each, done.now) for each in done.handed_on.kept]
        except Unavailable:  # and we are to leave
            self._renewer.let_go(started.claim_id)
            return []
        except Exception as error:
            self._fail(started, error)
            return []
        self._bell.ring(*([Hint.EVENTS] if kept else Hint))
        return kept

    def _complete(self, started: Started) -> Completed | None:
        begun = self._clock.monotonic()
        settled = self._settle(started)
        ran_ms = int((self._clock.monotonic() - begun) * 1000)
        return self._write(started, settled, ran_ms, self._hand_over.onward(settled))

    def _write(
        self, started: Started, settled: list[Settled], ran_ms: int, onward: Onward | None = None
    ) -> Completed | None:
        quantum_ms = int(self._settings.quantum * 1000)
        return self._insist(
            lambda: self._ledger.complete(
                started.claim_id, settled, ran_ms=ran_ms, quantum_ms=quantum_ms, onward=onward
            )
        )

    def _pass_on(self, started: Started) -> None:
        """A stage that a newer version knows: its steps wait for a worker that does, and were not tried here."""
        reason = f"worker {self._worker} does not know the stage {started.stage!r} of the queue {started.queue!r}"
        log("run", logging.WARNING, Action.GIVEN_BACK, f"{reason}: its work waits for one that does",
            claim=started.claim_id, steps=len(started.steps))  # fmt: skip
        delay_ms = int(self._random.uniform(0.5, 1) * _UNKNOWN_STAGE_SECONDS * 1000)
        self._insist(lambda: self._ledger.release([started.claim_id], delay_ms, reason))

    def _come_back(self, started: Started) -> list[Started]:
        """The claim had ended: its lease ran out, or the answer to its completion was lost. What that had kept for us
        is gone on with.
        """
        log("run", logging.WARNING, Action.LEASE_LOST, "the claim had ended before: nothing more was written",
            claim=started.claim_id, steps=len(started.steps))  # fmt: skip
        jobs = [row.job_id for row in started.steps]
        begun = self._insist(lambda: self._ledger.came_back(self._worker, started.stage, jobs))
        in_hand = self._renewer.held()
        again = [self._insist(partial(self._start, claim_id)) for claim_id in begun if claim_id not in in_hand]
        self._bell.ring(*Hint)
        return [each for each in again if each is not None]

    def _fail(self, started: Started, error: Exception) -> None:
        """What was raised outside the step, such as by the ledger, costs an attempt. The steps come back at different
        times, so that one that cannot be written soon stands alone.
        """
        logging.getLogger("headrace.run").exception("a claim failed", extra={"action": Action.STEP_FAILED})
        reason = f"its worker failed with {type(error).__name__}; see the worker's log"
        try:
            self._write(started, [failed(started, row, reason, self._conditions(0.0)) for row in started.steps], 0)
        except Exception:
            logging.getLogger("headrace.run").exception("it cannot be put off", extra={"action": Action.STEP_FAILED})
            self._renewer.let_go(started.claim_id)

    def _settle(self, started: Started) -> list[Settled]:
        expired = [row for row in started.steps if row.deadline < started.now]
        rows = [row for row in started.steps if row.deadline >= started.now]
        settled: list[Settled] = [
            buried(started.stage, row, Category.EXPIRED, "the deadline passed before it was run") for row in expired
        ]
        readable: list[tuple[StepRow, Task]] = []
        for row in rows:
            try:
                readable.append((row, task_of(row)))
            except InvalidRecord as error:
                dead = unreadable(error)
                settled.append(buried(started.stage, row, dead.category, dead.reason))
        begun = self._clock.monotonic()
        outcomes: list[Outcome] = run_isolated(
            self._steps[started.queue, started.stage], [task for _, task in readable]
        )
        conditions = self._conditions((self._clock.monotonic() - begun) * 1000)
        settled += [
            settle(started, row, task, outcome, conditions)
            for (row, task), outcome in zip(readable, outcomes, strict=True)
        ]
        return settled

    def _conditions(self, ran_ms: float) -> Conditions:
        return Conditions(
            max_attempts=self._settings.max_attempts,
            judge_model=self._settings.judge_model,
            random=self._random,
            ran_ms=ran_ms,
        )

    def _insist(self, act: Callable[[], T]) -> T:
        """Try again while the ledger is away: a worker's answers are dear, and without it there is nothing to do."""
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
