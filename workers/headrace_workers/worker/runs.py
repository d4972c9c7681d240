"""What runs in this process, for how long, and what of it hangs."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headrace_workers.ledger.complete import Settled
from headrace_workers.ledger.start import Started
from headrace_workers.progress import Progress
from headrace_workers.worker.bound import Speed, bound, tokens_done, weight_of


@dataclass(frozen=True, slots=True)
class Run:
    """A run that goes on: what it does, in which thread, since when, and how many seconds it may take."""

    started: Started
    thread: int
    since: float
    bound: float


class Runs:
    """The runs of this process. Thread-safe.

    Time is what the process has lived: while it was stopped, nothing could go on. `longest_run`: see bound.py; `own`
    are those of stages that have one of their own.
    """

    def __init__(self, progress: Progress, longest_run: float, own: Mapping[str, float] | None = None) -> None:
        self._progress = progress
        self._longest_run = longest_run
        self._own = own or {}
        self._lock = threading.Lock()
        self._speeds: dict[tuple[str, str], Speed] = {}
        self._runs: dict[int, Run] = {}

    def do(self, started: Started, work: Callable[[Started], list[Settled]]) -> list[Settled]:
        """Run a claim under a bound, and learn from it how quick this process is."""
        longest_run = self._own.get(started.stage, self._longest_run)
        with self._lock:
            speed = self._speeds.setdefault((started.queue, started.stage), Speed(weight_of(started.queue).first_speed))
            since = self._progress.lived
            self._runs[started.claim_id] = Run(
                started,
                threading.get_ident(),
                since,
                bound(started, speed, longest_run=longest_run),
            )
        try:
            settled = work(started)
            if done := tokens_done(started, settled):  # what only failed says nothing about the speed
                with self._lock:
                    speed.learn(done, self._progress.lived - since)
        finally:
            with self._lock:
                del self._runs[started.claim_id]
        return settled

    def hung(self) -> list[tuple[Run, float]]:
        """Those that run for longer than they may, and for how many seconds."""
        with self._lock:
            now = self._progress.lived
            return [(run, now - run.since) for run in self._runs.values() if now - run.since > run.bound]
