"""Work on a claim: the step over its group, and the stages that the worker runs right after it.

The steps after a light step are written in the same transaction: no message, no second start, no second commit. A
model's answer is costly, and is written before another step begins.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from headrace_schemas import Category
from headrace_schemas.errors import InvalidRecord
from headrace_workers.core.clock import Clock
from headrace_workers.core.ledger.charges import not_made
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.leases import Started, StepRow
from headrace_workers.core.ledger.outcome import Dead, Done, Ended
from headrace_workers.core.ledger.steps import NewStep, Tried
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.settle import Conditions, failed, settle, settle_dead, task_of
from headrace_workers.core.pipeline.stage import Step, Weight, run_isolated, unreadable
from headrace_workers.core.pipeline.task import Task, Unit, published, unpack
from headrace_workers.runtime.settings import Settings

Member = tuple[StepRow, Task | Unit]


class Work:
    """The steps that a worker can do, by queue and stage; it may learn more. Thread-safe. Writes nothing."""

    def __init__(
        self, pipeline: Pipeline, steps: Mapping[tuple[str, str], Step], settings: Settings, clock: Clock
    ) -> None:
        self._pipeline = pipeline
        self._steps = dict(steps)
        self._settings = settings
        self._clock = clock
        self._random = random.Random()

    def learn(self, steps: Mapping[tuple[str, str], Step]) -> None:
        """Add these steps, or put them in the place of those that there were."""
        self._steps = {**self._steps, **steps}

    def knows(self, started: Started) -> bool:
        """Return True if this worker can do it."""
        return (started.queue, started.stage) in self._steps

    def quantum(self, name: str) -> float:
        """Return how many seconds a group of this stage is to take."""
        stage = self._pipeline.stage(name)
        return self._settings.quantum if stage is None or stage.quantum is None else stage.quantum

    def do(self, started: Started) -> list[StepResult]:
        """Run the step over the group; what becomes of each of its jobs."""
        settled: list[StepResult] = []
        members: list[Member] = []
        for row in started.steps:
            try:
                if row.deadline < started.now:
                    late = Dead(Category.EXPIRED, "the deadline passed before it was run")
                    settled.append(settle_dead(started.stage, row, late)._replace(charge=not_made(started.queue)))
                else:
                    members.append((row, task_of(row, started.now)))
            except InvalidRecord as error:
                settled.append(settle_dead(started.stage, row, unreadable(error)))
        return settled + self._run(started, members)

    def fail(self, started: Started, reason: str) -> list[StepResult]:
        """Return the outcomes of a group whose run failed around its step."""
        return [failed(started, row, reason, self._conditions(0.0)) for row in started.steps]

    def _run(self, started: Started, members: Sequence[Member]) -> list[StepResult]:
        begun = self._clock.monotonic()
        outcomes = run_isolated(self._steps[started.queue, started.stage], [task for _, task in members])
        ran_ms = (self._clock.monotonic() - begun) * 1000
        conditions = self._conditions(ran_ms)
        settled = {
            row.job_id: settle(started, row, task, outcome, conditions)
            for (row, task), outcome in zip(members, outcomes, strict=True)
        }
        if self._is_light(started.stage):
            return self._go_on(started, members, settled, started.now + int(ran_ms))
        return list(settled.values())

    def _is_light(self, name: str) -> bool:
        stage = self._pipeline.stage(name)
        return stage is not None and stage.weight is Weight.LIGHT

    def _go_on(
        self, started: Started, members: Sequence[Member], settled: dict[str, StepResult], now: int
    ) -> list[StepResult]:
        """Return the outcomes of these jobs, with the outcomes of the next steps that this worker runs itself; `now` in
        ms."""
        mine = [
            (step, _behind(row, task, settled[row.job_id].event, step, now))
            for row, task in members
            if isinstance(task, Task)
            for step in settled[row.job_id].following
            if (step.queue, step.stage) in self._steps and self._is_light(step.stage) and step.deadline >= now
        ]
        for (queue, stage, key), group in groupby(sorted(mine, key=_place), key=_place):
            behind = [member for _, member in group]
            rows = tuple(row for row, _ in behind)
            tokens = sum(row.tokens for row in rows)
            for item in self._run(Started(started.claim_id, queue, stage, key, False, tokens, now, rows), behind):
                settled[item.job_id] = _joined(settled[item.job_id], stage, item, now)
        return list(settled.values())

    def _conditions(self, ran_ms: float) -> Conditions:
        return Conditions(
            pipeline=self._pipeline,
            max_attempts=self._settings.max_attempts,
            random=self._random,
            ran_ms=ran_ms,
        )


def _place(following: tuple[NewStep, Member]) -> tuple[str, str, str]:
    step, _ = following
    return step.queue, step.stage, step.group_key


def _behind(row: StepRow, task: Task, event: Any, step: NewStep, now: int) -> Member:
    """Return a step as it would be read from the ledger: all of it is known from the one before."""
    row = row._replace(
        attempts=1,
        ready_at=now,
        event_type=step.event_type,
        payload=step.payload,
        tokens=step.tokens,
        ordinal=step.ordinal,
        context=step.context,
        woken_by=None,
        held_at=None,
        waited_since=None,
    )
    context, unpublished = unpack(step.context)
    return row, Task(
        job_id=task.job_id,
        job=task.job,
        event=event,
        accepted_at=task.accepted_at,
        context=context,
        ordinal=step.ordinal,
        stages=published(event) + unpublished,
        seconds_left=task.seconds_left,
    )


def _joined(before: StepResult, stage: str, item: StepResult, now: int) -> StepResult:
    """Return what became of a job at one step, which is done, and at the step after it."""
    tried = Tried(now, item.outcome, item.delay_ms)
    passed = tuple(
        step._replace(tried=tried, context=item.context or step.context) if step.stage == stage else step
        for step in before.following
    )
    records = (*before.records, *item.records)
    if isinstance(before.outcome, Done) and isinstance(item.outcome, Done | Ended):
        outcome, rows = item.outcome, before.outcome.rows
        if rows:
            outcome = replace(outcome, rows=(*rows, *outcome.rows))
        return item._replace(outcome=outcome, records=records, following=(*passed, *item.following))
    return before._replace(records=records, following=passed, burial=item.burial)
