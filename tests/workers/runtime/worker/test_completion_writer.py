import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.workers.ledger_jobs import claim_one, take_in
from tests.workers.runtime.bridge.records import generation
from tests.workers.runtime.worker.running import Notifier, answer_all, runner, states
from tests.workers.tasks_in_memory import Tasks

from headrace_workers.core.sql.database_errors import LedgerRefused
from headrace_workers.runtime.wire.hints import Hint

_SECONDS = 60


@pytest.fixture
def begun(ledger):
    jobs = [take_in(ledger, [generation()])[0] for _ in range(3)]
    return jobs, [claim_one(ledger, limit=1).id for _ in jobs]


def run_together(ledger, monkeypatch, claims, complete, **options):
    """Run the first claim; let the others be over while it is being written. Return the sizes of the transactions."""
    sizes, writing, others_wait = [], threading.Event(), threading.Event()
    worker = runner(ledger, answer_all, **options)

    def observed(runs, room):
        sizes.append(len(runs))
        if not writing.is_set():
            writing.set()
            assert others_wait.wait(_SECONDS)
        return complete(runs, room)

    monkeypatch.setattr(ledger, "complete_together", observed)
    with ThreadPoolExecutor(len(claims)) as pool:
        first = pool.submit(worker.run, claims[0])
        assert writing.wait(_SECONDS)
        others = [pool.submit(worker.run, claim) for claim in claims[1:]]
        while len(worker._completions._waiting) < len(others):
            assert not any(future.done() for future in others)
        others_wait.set()
        for future in (first, *others):
            future.result(_SECONDS)
    return sizes


def test_runs_that_are_over_during_a_transaction_share_the_next(ledger, monkeypatch, begun):
    jobs, claims = begun
    notifier, tasks = Notifier(), Tasks()
    sizes = run_together(ledger, monkeypatch, claims, ledger.complete_together, notifier=notifier, tasks=tasks)
    assert sizes == [1, 2]
    assert sorted(claim.size for claim in tasks.sent) == [1, 2]
    assert notifier.sent.count(Hint.WORK) == 2
    assert all(states(ledger)[job, "generate"] == "done" for job in jobs)


@pytest.mark.parametrize(
    ("lane", "hints"),
    [("batch", [Hint.TRICKLE, Hint.EVENTS]), ("interactive", [Hint.WORK, Hint.EVENTS, Hint.ENDS])],
)
def test_a_few_runs_of_the_batch_lane_ask_for_no_look_at_once(ledger, lane, hints):
    take_in(ledger, [generation(lane=lane)])
    notifier = Notifier()
    runner(ledger, answer_all, notifier=notifier).run(claim_one(ledger, lane=int(lane == "batch")).id)
    assert notifier.sent == hints


def test_a_run_that_cannot_be_written_fails_alone(ledger, monkeypatch, begun):
    jobs, claims = begun
    complete = ledger.complete_together

    def refusing(runs, room):
        if any(run.claim_id == claims[1] for run in runs):
            raise LedgerRefused("broken")
        return complete(runs, room)

    run_together(ledger, monkeypatch, claims, refusing)
    found = states(ledger)
    assert [found[job, "generate"] for job in jobs] == ["done", "leased", "done"]
