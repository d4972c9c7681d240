"""Runs in this process: for how long each has run, how long it may, and what is done about hung and cancelled ones."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from headrace_schemas import Output
from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Done, Dropped, Ended
from headrace_workers.core.log import Action, log
from headrace_workers.core.outage import KeepsGoing
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import Weight
from headrace_workers.core.progress import STUCK_EXIT, Awaited, Loop, Progress, stack_of

# Time that a run may take before it counts as hung. Pure.
#
# A hung run holds its slot, so it must end; a long answer on a slow machine must not. A bound that is too short kills a
# worker in the middle of good work, while a hung run is found at any bound. So every number is generous. A run may take
#
#     longest_run, for every kind of work: a first call loads or compiles, and a machine may swap;
#     and a second for each token of its longest job: a model writes them one after another, in every group;
#     and _SLOWER times as long as all its tokens take at the speed that was learnt.
#
# The speed is an average of what this process did: tokens by seconds, so that short runs weigh little. Ten times slower
# is no hang: others may share the machine, a group that failed is done again in halves, and an answer alone is written
# at a tenth of a full batch's speed. Reading is quicker yet, a hundred times: hence the seconds of the longest job. An
# answer that ends early counts as the tokens that were written, not as its limit: else a slow model with short answers
# looks quick.
#
# Groups are made to fit the quantum (15 s): most bounds are little more than `longest_run`, and a run may be fifty
# times slower than usual. Before anything was learnt a job of 300 tokens, alone, may take 25 minutes, one of 4,096
# three hours and a half. The learnt speed is lost with the process, which harms no good run: the first bounds are wide,
# and a minute of running weighs as much as the assumed speed.

_SLOWER: Final = 10.0  # than it was: still no hang
_FIRST_SECONDS: Final = 60.0  # so much running weighs what was supposed before anything was learnt
_REMEMBERED: Final = 7_200.0  # seconds of running: then all that was learnt weighs half


@dataclass(frozen=True, slots=True)
class Pace:
    """Assumptions about a kind of work: its speed (tokens a second), and the time that a token of its longest job may
    take.
    """

    first_speed: float
    seconds_a_token: float


# A large model on a few cores makes a token a second; a small one, fifty. Moderation reads 70,000 and more.
MODEL: Final = Pace(first_speed=5.0, seconds_a_token=1.0)
LIGHT: Final = Pace(first_speed=1_000.0, seconds_a_token=0.0)


def pace_of(weight: Weight) -> Pace:
    """Return the assumptions about work of this weight."""
    return MODEL if weight is Weight.MODEL else LIGHT


class Speed:
    """Speed in tokens a second, as far as it is known."""

    def __init__(self, first: float) -> None:
        self._seconds = _FIRST_SECONDS
        self._tokens = _FIRST_SECONDS * first

    @property
    def tokens_a_second(self) -> float:
        """Return all that was done by all the time that it took; never nothing."""
        return self._tokens / self._seconds

    def learn(self, tokens: int, seconds: float) -> None:
        """Learn from a run that has ended."""
        self._tokens += tokens
        self._seconds += seconds
        if self._seconds > _REMEMBERED:
            self._tokens /= 2
            self._seconds /= 2


def bound(started: Started, pace: Pace, speed: Speed, *, longest_run: float) -> float:
    """Return how many seconds this run may take."""
    longest = max((row.tokens for row in started.steps), default=0)
    written = pace.seconds_a_token * longest
    return longest_run + written + _SLOWER * started.tokens / speed.tokens_a_second


def tokens_done(started: Started, settled: Sequence[StepResult]) -> int:
    """Return how many tokens a run that has ended read and wrote: the model's count, else its whole input.

    Failed items count as none, since nobody knows how far they came.
    """
    tokens = {row.job_id: row.tokens for row in started.steps}
    return sum(
        _done(item, tokens.get(item.job_id, 0)) for item in settled if isinstance(item.outcome, Done | Ended | Dropped)
    )


def _done(item: StepResult, tokens: int) -> int:
    if isinstance(item.event, Output):
        usage = item.event.answer.usage
        return usage.prompt_tokens + usage.completion_tokens
    return tokens


@dataclass(frozen=True, slots=True)
class Run:
    """A run in progress: its claim, its thread, its start, and the seconds that it may take."""

    started: Started
    thread: int
    since: float
    bound: float


class Runs:
    """The runs of this process. Thread-safe.

    Time is what the process has lived: while it was stopped, nothing could go on. `longest_run` is of
    the stages that say nothing themselves.
    """

    def __init__(self, progress: Progress, pipeline: Pipeline, longest_run: float) -> None:
        self._progress = progress
        self._pipeline = pipeline
        self._longest_run = longest_run
        self._lock = threading.Lock()
        self._speeds: dict[tuple[str, str], Speed] = {}
        self._runs: dict[int, Run] = {}
        self.leaving = threading.Event()  # set when this process is to end

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

    def watched(self) -> dict[int, frozenset[str]]:
        """Return the jobs of stages that ask while they run whether a job is cancelled, by their claims."""
        with self._lock:
            runs = [run.started for run in self._runs.values()]
        return {run.claim_id: frozenset(row.job_id for row in run.steps) for run in runs if self._asks(run)}

    def _asks(self, started: Started) -> bool:
        stage = self._pipeline.stage(started.stage)
        return stage is not None and (stage.weight is Weight.MODEL or "cancelled" in stage.needs)

    def hung(self) -> list[tuple[Run, float]]:
        """Return the runs that exceed their bound, and for how many seconds each has run."""
        with self._lock:
            now = self._progress.lived
            return [(run, now - run.since) for run in self._runs.values() if now - run.since > run.bound]


# The end of a process that has a run which hangs: a thread cannot be killed, and would keep its slot for ever.
#
# The hung claim is left to its lease. So it counts as its worker's death: its group is tried again in halves, and a job
# that hangs alone, too, is poison in the end. All else that is in hand has done nothing wrong, and is given back.

LAST_SECONDS: Final = 3.0  # for words, and for what is given back: the thread that hangs may hold any lock


def end_process(hung: Sequence[tuple[Run, float]], give_back: Callable[[], int], end: Callable[[int], object]) -> None:
    """Say what hangs, give back the rest if the ledger answers soon, and end."""
    last = threading.Thread(target=_part, args=(hung, give_back), name="parting", daemon=True)
    last.start()
    last.join(LAST_SECONDS)
    end(STUCK_EXIT)


def _part(hung: Sequence[tuple[Run, float]], give_back: Callable[[], int]) -> None:
    for run, seconds in hung:
        _tell(run, seconds)
    try:
        steps = give_back()
    except Unavailable as error:
        log("worker", logging.WARNING, Action.UNAVAILABLE, f"could not give work back: {error}")
        return
    if steps:
        log("worker", logging.INFO, Action.GIVEN_BACK, "the other claims of this process were given back", steps=steps)


def _tell(run: Run, seconds: float) -> None:
    started = run.started
    log("worker", logging.ERROR, Action.HUNG,
        f"the stage {started.stage} hangs: it has run for {seconds:.0f} s, and may for {run.bound:.0f} s. This process "
        f"ends, to be started again; what hung is tried again in halves",
        claim=started.claim_id, stage=started.stage, queue=started.queue, tokens=started.tokens,
        steps=len(started.steps), seconds=round(seconds), stack=stack_of(run.thread))  # fmt: skip


_EVERY = 1.0  # seconds


class CancellationWatch(KeepsGoing):
    """Watch that asks the ledger once a second which jobs the claims here no longer hold, while a step runs that wants
    to know.
    """

    def __init__(self, ledger: Ledger, runs: Runs, loop: Loop, every: float = _EVERY) -> None:
        super().__init__(loop)
        self._ledger, self._runs, self._every = ledger, runs, every
        self._jobs: frozenset[str] = frozenset()

    def __call__(self, job_id: str) -> bool:
        """Return True if the claims here no longer hold this job. It is called for each token."""
        return job_id in self._jobs

    def look(self) -> None:
        """Look once. Unavailable."""
        running = self._runs.watched()
        held = self._ledger.leased_jobs(sorted(running)) if running else frozenset()
        jobs = frozenset[str]().union(*running.values())
        # One whose lease had been lost may run here again, under another claim.
        self._jobs = jobs - held

    def _look(self) -> Awaited | None:
        self.look()
        self._stop.wait(self._every)
        return None
