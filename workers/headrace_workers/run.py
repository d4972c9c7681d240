"""Running one claim: start, run the step over the whole group, complete. All that a worker does."""

import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TypeVar

from headrace_schemas import Category
from headrace_schemas.errors import InvalidRecord, Unavailable
from headrace_workers.hand_over import HandOver
from headrace_workers.isolate import Step, run_isolated, unreadable
from headrace_workers.ledger.complete import Completed, Settled
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.ledger.start import Started, StepRow, continued
from headrace_workers.log import Action, log
from headrace_workers.outcome import Outcome
from headrace_workers.ports import Clock
from headrace_workers.renew import Renewer
from headrace_workers.settings import Settings
from headrace_workers.settle import Conditions, buried, settle, task_of
from headrace_workers.task import Task
from headrace_workers.wake import Bell, Hint

T = TypeVar("T")


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
    ) -> None:
        self._ledger = ledger
        self._steps = steps
        self._settings = settings
        self._renewer = renewer
        self._bell = bell
        self._clock = clock
        self._worker = worker
        self._hand_over = hand_over
        self._random = random.Random()

    def run(self, claim_id: int) -> None:
        """Run a claim, once. One that is no longer ours, or that runs here already, is passed over in silence."""
        with ExitStack() as leases:
            if not leases.enter_context(self._renewer.renewing(claim_id)):
                return
            lease_ms = self._settings.lease_ms
            started = self._insist(lambda: self._ledger.start(claim_id, worker=self._worker, lease_ms=lease_ms))
            if started is None:
                self._bell.ring(Hint.WORK)  # there is room in the queue again
                return
            begun = [started]
            for each in begun:  # it grows by what follows
                for kept in self._finish(each):
                    leases.enter_context(self._renewer.renewing(kept.claim_id))
                    begun.append(kept)

    def _finish(self, started: Started) -> list[Started]:
        """Run what was begun and write what came of it; what follows from it and was kept, begun already."""
        done = self._complete(started)
        kept: list[Started] = []
        if done is None:
            log("run", logging.WARNING, Action.LEASE_LOST, "finished work whose lease was lost: nothing was written",
                claim=started.claim_id, steps=len(started.steps))  # fmt: skip
        else:
            self._hand_over.send(done.handed_on.sent)
            kept = [continued(started, each, done.now) for each in done.handed_on.kept]
        self._bell.ring(*([Hint.EVENTS] if kept else Hint))
        return kept

    def _complete(self, started: Started) -> Completed | None:
        begun = self._clock.monotonic()
        settled = self._settle(started)
        ran_ms = int((self._clock.monotonic() - begun) * 1000)
        quantum_ms = int(self._settings.quantum * 1000)
        onward = self._hand_over.onward(settled)
        return self._insist(
            lambda: self._ledger.complete(
                started.claim_id, settled, ran_ms=ran_ms, quantum_ms=quantum_ms, onward=onward
            )
        )

    def give_back(self) -> int:
        """Hand back what is unfinished, or was handed on and not begun, at a stop; the number of steps."""
        held = self._renewer.held()
        steps = self._ledger.release(held) if held else 0
        return steps + self._ledger.release_unstarted(self._worker)

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
        conditions = Conditions(
            max_attempts=self._settings.max_attempts,
            judge_model=self._settings.judge_model,
            random=self._random,
            ran_ms=(self._clock.monotonic() - begun) * 1000,
        )
        settled += [
            settle(started, row, task, outcome, conditions)
            for (row, task), outcome in zip(readable, outcomes, strict=True)
        ]
        return settled

    def _insist(self, act: Callable[[], T]) -> T:
        """Try again while the ledger is away, as long as the lease may still hold."""
        until = self._clock.monotonic() + self._settings.lease
        pause = 0.1
        while True:
            try:
                return act()
            except Unavailable as error:
                if self._clock.monotonic() > until:
                    raise
                log("run", logging.WARNING, Action.UNAVAILABLE, f"{error}; trying again")
                time.sleep(pause)
                pause = min(2.0, pause * 2)
