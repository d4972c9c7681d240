"""Runs around which something goes wrong, against a real ledger: it is away, an answer is lost, a worker comes late."""

from contextlib import suppress

import pytest
from sqlalchemy import select, update
from tests.workers.core.ledger.budget_deployment import CENT, Deployment, Given
from tests.workers.ledger_jobs import claim_one, take_in
from tests.workers.runtime.bridge.records import generation
from tests.workers.runtime.worker.running import answer_all, crashes, run_all, run_out, runner, states

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import writing
from headrace_workers.core.sql.database_errors import LedgerRefused
from headrace_workers.core.tables import LOST_CALLS, STEPS


def test_a_ledger_that_is_away_for_a_moment_costs_no_answer(ledger, monkeypatch):
    take_in(ledger, [generation()])
    complete, failures = ledger.complete_together, [Unavailable("away")] * 2

    def flaky(*args, **kwargs):
        if failures:
            raise failures.pop()
        return complete(*args, **kwargs)

    monkeypatch.setattr(ledger, "complete_together", flaky)
    run_all(ledger, answer_all)
    assert len(ledger.outbox(9)) == 1


def test_an_answer_that_was_lost_on_its_way_costs_nothing(ledger, monkeypatch):
    """The ledger began the claim and could not say so: the same worker asks again, and runs it."""
    (job_id,) = take_in(ledger, [generation()])
    start, failures = ledger.start, [Unavailable("away")]

    def lost(*args, **kwargs):
        started = start(*args, **kwargs)
        if failures:
            raise failures.pop()
        return started

    monkeypatch.setattr(ledger, "start", lost)
    run_all(ledger, answer_all)
    assert states(ledger)[job_id, "generate"] == "done"


def test_a_worker_that_is_to_end_waits_a_lease_for_the_ledger_and_no_longer(ledger, monkeypatch):
    """It lets go of what it had asked for: should it have begun without our knowing, it is given back."""
    take_in(ledger, [generation()])
    claim, start = claim_one(ledger), ledger.start

    def lost(*args, **kwargs):
        start(*args, **kwargs)
        raise Unavailable("away")

    monkeypatch.setattr(ledger, "start", lost)
    worker = runner(ledger, answer_all, lease=0.15)
    worker.leave()
    worker.run(claim.id)
    assert worker.give_back() == 1


def test_a_worker_that_comes_back_too_late_has_not_died(ledger, monkeypatch):
    (job_id,) = take_in(ledger, [generation()])
    complete, away = ledger.complete_together, [Unavailable("away")]

    def cut_off(*args, **kwargs):
        if away:
            run_out(ledger)
            assert ledger.reap(3).crashed == 1
            assert crashes(ledger) > 0
            raise away.pop()
        return complete(*args, **kwargs)

    monkeypatch.setattr(ledger, "complete_together", cut_off)
    run_all(ledger, answer_all)
    assert (states(ledger), crashes(ledger)) == ({(job_id, "generate"): "ready"}, 0)


@pytest.mark.parametrize("fate", ["reaped", "cancelled", "killed"])
def test_a_worker_tells_what_its_call_cost_whose_answer_is_thrown_away(ledger, fate):
    there = Deployment(ledger, Given(echo=CENT))
    ledger.ingest([new := there.new()])
    claim = claim_one(ledger, lane=0)

    def slow(tasks):
        if fate == "cancelled":
            assert ledger.cancel(Cancellation(new.id, "a", "")) == "cancelled"
        else:
            run_out(ledger)
            assert ledger.reap(3).crashed == 1
        if fate == "killed":
            raise SystemExit
        return answer_all(tasks)

    with suppress(SystemExit):
        runner(ledger, slow).run(claim.id)
    (call,) = ledger.read(select(LOST_CALLS))
    assert (call.bound, call.amount) == (new.money, None if fate == "killed" else 10 + 20)


def test_the_lost_answer_of_a_completion_costs_nothing(ledger, monkeypatch):
    (job_id,) = take_in(ledger, [generation()])
    complete, failures = ledger.complete_together, [Unavailable("away")]

    def lost(*args, **kwargs):
        done = complete(*args, **kwargs)
        if failures:
            raise failures.pop()
        return done

    monkeypatch.setattr(ledger, "complete_together", lost)
    run_all(ledger, answer_all)
    assert states(ledger) == {(job_id, "generate"): "done", (job_id, "moderate"): "ready"}
    assert (ledger.overview().claims, len(ledger.outbox(9))) == (0, 1)


def test_what_fails_around_the_step_is_tried_again_later_and_at_last_dead(ledger, monkeypatch, caplog):
    def broken(*_args):
        raise ValueError("with a text of the user's")

    monkeypatch.setattr("headrace_workers.runtime.worker.work.settle", broken)
    (job_id,) = take_in(ledger, [generation()])
    for attempt in range(1, 4):
        run_all(ledger, answer_all, max_attempts=3)
        assert (ledger.overview().claims, crashes(ledger)) == (0, 0)
        ((state, tried),) = ledger.read(select(STEPS.c.state, STEPS.c.attempts))
        assert (state, tried) == ("waiting" if attempt < 3 else "dead", attempt)
        with writing(ledger.engine) as tx:
            tx.execute(update(STEPS).values(ready_at=0))
        ledger.reap(3)
    (letter,) = ledger.dead(DeadFilter())
    assert letter.job_id == job_id
    assert "ValueError" in letter.reason
    assert "text" not in letter.reason


def test_a_claim_that_cannot_even_be_put_off_is_let_go_of(ledger, monkeypatch):
    take_in(ledger, [generation()])

    def broken(*_args, **_kwargs):
        raise LedgerRefused("broken")

    monkeypatch.setattr(ledger, "complete_together", broken)
    worker = runner(ledger, answer_all)
    worker.run(claim_one(ledger).id)
    assert worker.give_back() == 1
    assert (set(states(ledger).values()), crashes(ledger)) == ({"ready"}, 0)
