import pytest
from tests.workers.ledger_jobs import claim_one, take_in
from tests.workers.runtime.bridge.records import generation
from tests.workers.runtime.worker.running import run_out
from tests.workers.runtime.worker.starts import started

from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.progress import Progress
from headrace_workers.runtime.worker.runs import CancellationWatch, Runs


@pytest.fixture
def runs():
    return Runs(Progress(), Pipeline(), 600.0)


@pytest.fixture
def watch(ledger, runs):
    return CancellationWatch(ledger, runs, Progress().loop("let go"))


def begun(ledger):
    return ledger.start(claim_one(ledger).id, worker="w", lease_ms=30_000)


def cancel(ledger, job_id):
    assert ledger.cancel(Cancellation(job_id, "default", "not wanted any more")) == "cancelled"


def test_a_job_that_is_cancelled_is_let_go_of_while_it_runs(ledger, runs, watch):
    """That one, and not those that are answered with it; once it runs no more nobody knows of it."""
    ids = take_in(ledger, [generation() for _ in range(3)])
    seen = []

    def work(_started):
        watch.look()
        seen.append([watch(job_id) for job_id in ids])
        cancel(ledger, ids[1])
        watch.look()
        seen.append([watch(job_id) for job_id in ids])
        return []

    runs.do(begun(ledger), work)
    assert seen == [[False] * 3, [False, True, False]]
    watch.look()
    assert not watch(ids[1])


def test_what_another_worker_has_now_is_let_go_of_and_what_runs_here_again_is_not(ledger, runs, watch):
    (job_id,) = take_in(ledger, [generation()])
    first = begun(ledger)
    run_out(ledger)
    ledger.reap(3)
    second = begun(ledger)
    seen = []

    def look(_started):
        watch.look()
        seen.append(watch(job_id))
        return []

    runs.do(first, look)
    runs.do(first, lambda _started: runs.do(second, look))
    assert seen == [True, False]


def test_a_ledger_is_not_asked_while_no_model_is_at_work(runs):
    """A light step has ended before anybody would be told."""
    watch = CancellationWatch(None, runs, Progress().loop("let go"))
    watch.look()
    runs.do(started([1], queue="judge", stage="judge"), lambda _started: watch.look() or [])
