import threading

import pytest
from tests.workers.runtime.worker.starts import output, started

from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.outcome import Done
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.progress import Progress
from headrace_workers.runtime.worker.runs import Runs


@pytest.fixture
def progress():
    """A process that has lived for a while."""
    progress = Progress()
    progress.lived = 1_000.0
    return progress


def test_a_run_hangs_when_it_has_taken_longer_than_it_may(progress):
    runs, claim, seen = Runs(progress, Pipeline(), 600.0), started([100]), []

    def work(_started):
        progress.lived = 1_000.0 + runs._runs[claim.claim_id].bound
        seen.append(runs.hung())
        progress.lived += 1
        seen.append(runs.hung())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        runs.do(claim, work)
    assert seen[0] == []
    ((run, seconds),) = seen[1]
    assert (run.started, run.thread, seconds) == (claim, threading.get_ident(), run.bound + 1)
    assert runs.hung() == []


def test_a_process_that_was_stopped_has_no_run_that_hangs(progress):
    runs = Runs(progress, Pipeline(), 1e-9)
    assert runs.do(started([]), lambda _started: runs.hung()) == []


def bound_of(runs, claim):
    """How long this claim may run here."""
    bounds = []
    runs.do(claim, lambda _started: bounds.append(runs._runs[claim.claim_id].bound) or [])
    return bounds[0]


def takes(progress, seconds, tokens):
    """Work that takes so long, and writes so many tokens for its first job."""

    def work(claim):
        progress.lived += seconds
        row = claim.steps[0]
        return [StepResult(row.job_id, Done(), event=output(row.job_id, read=0, written=tokens))]

    return work


def test_what_was_slow_may_take_longer_the_next_time(progress):
    runs, others = Runs(progress, Pipeline(), 600.0), [started([100], queue="model.b"), started([100], stage="judge")]
    first, before = bound_of(runs, started([100])), [bound_of(runs, other) for other in others]
    runs.do(started([100]), takes(progress, 500.0, 50))
    assert bound_of(runs, started([100])) > 2 * first
    assert [bound_of(runs, other) for other in others] == before


def test_what_was_quick_may_take_less_the_next_time(progress):
    """A hang is found sooner where it is known how quick the machine is."""
    runs = Runs(progress, Pipeline(), 600.0)
    first = bound_of(runs, started([10_000]))
    for _ in range(20):
        runs.do(started([10_000]), takes(progress, 10.0, 10_000))
    assert bound_of(runs, started([10_000])) < first - 10_000


def test_what_only_failed_teaches_nothing(progress):
    runs = Runs(progress, Pipeline(), 600.0)
    first = bound_of(runs, started([100]))

    def fails(_claim):
        progress.lived += 5_000
        return []

    runs.do(started([100]), fails)
    assert bound_of(runs, started([100])) == first
