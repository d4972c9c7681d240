"""Runs in this process: for how long each has run, and which of them hang."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import Weight
from headrace_workers.core.progress import Progress
from headrace_workers.runtime.worker.bound import Speed, bound, pace_of, tokens_done


@dataclass(frozen=True, slots=True)
class Run:
    """A run in progress: its claim, its thread, its start, and the seconds that it may take."""

    started: Started
    thread: int
    since: float
    bound: float


class Runs:
    """The runs of this process. Thread-safe.

    Time is what the process has lived: while it was stopped, nothing could go on. `longest_run`, see bound.py, is of
    the stages that say nothing themselves.
    """

    def __init__(self, progress: Progress, pipeline: Pipeline, longest_run: float) -> None:
        self._progress = progress
        self._pipeline = pipeline
        self._longest_run = longest_run
        self._lock = threading.Lock()
        self._speeds: dict[tuple[str, str], Speed] = {}
        self._runs: dict[int, Run] = {}

    def do(self, started: Started, work: Callable[[Started], list[StepResult]]) -> list[StepResult]:
        """Run a claim under a bound, and learn from it how quick this process is."""
        stage = self._pipeline.stage(started.stage)
        assert stage is not None  # noqa: S101 - a worker runs none that it does not know
        pace, longest_run = pace_of(stage.weight), self._longest_run
        with self._lock:
            speed = self._speeds.setdefault((started.queue, started.stage), Speed(pace.first_speed))
            since = self._progress.lived
            seconds = bound(started, pace, speed, longest_run=longest_run)
            self._runs[started.claim_id] = Run(started, threading.get_ident(), since, seconds)
        try:
            settled = work(started)
            if done := tokens_done(started, settled):  # what only failed says nothing about the speed
                with self._lock:
                    speed.learn(done, self._progress.lived - since)
        finally:
            with self._lock:
                del self._runs[started.claim_id]
        return settled

    def of_models(self) -> dict[int, frozenset[str]]:
        """Return the jobs that models answer here, by their claims."""
        with self._lock:
            runs = [run.started for run in self._runs.values()]
        return {each.claim_id: frozenset(row.job_id for row in each.steps) for each in runs if self._asks(each)}

    def _asks(self, started: Started) -> bool:
        stage = self._pipeline.stage(started.stage)
        return stage is not None and stage.weight is Weight.MODEL

    def hung(self) -> list[tuple[Run, float]]:
        """Return the runs that exceed their bound, and for how many seconds each has run."""
        with self._lock:
            now = self._progress.lived
            return [(run, now - run.since) for run in self._runs.values() if now - run.since > run.bound]
