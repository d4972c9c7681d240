"""Calls that were charged with a bound because their workers lost them, and whose true costs become known."""

from datetime import date
from typing import Any

import pytest
from pydantic_core import from_json
from sqlalchemy import select, update
from tests.workers.core.ledger.budget_deployment import (
    CENT,
    Deployment,
    Given,
    books,
    budget,
    costs,
    kill,
    usual,
)
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
from tests.workers.ledger_jobs import claim_one

from headrace_schemas import Category
from headrace_workers.core.ledger.accounting import account
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Retry
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import clock, writing
from headrace_workers.core.tables import JOBS, LOST_CALLS, STEPS
from headrace_workers.features.access.store.quotas import Quotas, WantedQuota
from headrace_workers.features.access.tables import BOUNDS_PAID
from headrace_workers.features.spend.store import Spending

PAID = 7 * 10 + 3 * 20  # what `usual` costs with CENT


@pytest.fixture
def there(ledger: Ledger) -> Deployment:
    """A deployment with the priced models `echo` and `other`, and a budget of the tenant `a`."""
    budget(ledger, 10**9)
    return Deployment(ledger, Given(echo=CENT, other=CENT))


def slow(there: Deployment, **fields: Any) -> tuple[Any, Started]:
    """A job whose worker lost it while it asked the model; the bridge has charged the call with its bound."""
    new = there.new(**fields)
    there.ledger.ingest([new])
    return new, lose(there)


def lose(there: Deployment) -> Started:
    claim = claim_one(there.ledger, lane=0)
    assert claim is not None
    started = kill(there, claim)
    assert started is not None
    assert there.ledger.reap(9).crashed == 1
    return started


def spent(ledger: Ledger, *, up_to: int | None = None) -> tuple[int, int, int]:
    """What `headrace cost` tells of the tenant `a`, once all ends are accounted for: calls, amount, and bound."""
    with writing(ledger.engine) as tx:
        account(tx, clock(tx) + 1)
    rows, _ = ledger.of(Spending).spent((), date.min, date.max, "a")
    return (rows[0].calls, rows[0].amount, rows[0].bound) if rows else (0, 0, 0)


def test_a_slow_worker_reports_what_its_call_cost(there: Deployment):
    new, late = slow(there)
    assert books(there.ledger) == (0, 2 * new.money)
    assert not there.complete(late, usual)  # its answer is thrown away
    (known,) = there.report(late, usual)
    assert (known.job_id, known.bound, known.amount, known.told_at) == (new.id, new.money, PAID, None)
    assert books(there.ledger) == (0, new.money + PAID)
    there.to_the_end()
    assert books(there.ledger) == (2 * PAID, 0)
    assert costs(there.ledger)[new.id] == {
        "amount": 2 * PAID, "currency": "USD", "unknown": False, "bound": 0,
        "models": [{"model": "echo", "calls": 2, "amount": 2 * PAID, "unknown_calls": 0, "bound": 0}],
    }  # fmt: skip
    assert spent(there.ledger) == (2, 2 * PAID, 0)
    assert there.ledger.read(select(LOST_CALLS)) == []


def test_a_client_that_waits_is_told_the_same_end_as_kafka(there: Deployment):
    new, _ = slow(there)
    there.run("model.echo")
    there.run("moderate")
    claim = claim_one(there.ledger, "judge", lane=0)
    assert claim is not None
    started = there.start(claim)
    assert started is not None
    completed = there.ledger.complete(claim.id, there.settled(started, usual), ran_ms=5, quantum_ms=1_000)
    assert completed is not None
    (told,) = completed.ended
    assert from_json(told.value)["cost"] == costs(there.ledger)[new.id]
    assert from_json(told.value)["cost"]["amount"] == new.money + PAID
    assert told.value in {row.record.value for row in there.ledger.outbox(99)}


@pytest.mark.parametrize("counted", [False, True])
def test_a_report_behind_the_end_corrects_all_but_the_receipt(there: Deployment, counted: bool):
    new, late = slow(there)
    there.to_the_end()
    assert books(there.ledger) == (new.money + PAID, 0)
    if counted:
        assert spent(there.ledger) == (2, new.money + PAID, new.money)
    (known,) = there.report(late, usual)
    assert (known.told_at is not None, known.is_counted) == (True, counted)
    assert books(there.ledger) == (2 * PAID, 0)
    assert spent(there.ledger) == (2, 2 * PAID, 0)
    told = costs(there.ledger)[new.id]
    assert (told["amount"], told["bound"], told["models"][0]["bound"]) == (new.money + PAID, new.money, new.money)
    assert there.ledger.read(select(LOST_CALLS)) == there.ledger.read(select(BOUNDS_PAID)) == []


@pytest.mark.parametrize("when", ["before", "after", "counted"])
def test_a_second_report_changes_nothing(there: Deployment, when: str):
    _, late = slow(there)
    if when != "before":
        there.to_the_end()
    if when == "counted":
        spent(there.ledger)
    assert len(there.report(late, usual)) == 1
    assert there.report(late, usual) == []
    there.to_the_end()
    assert there.report(late, usual) == []
    assert books(there.ledger) == (2 * PAID, 0)
    assert spent(there.ledger) == (2, 2 * PAID, 0)
    assert there.report(late, usual) == []
    assert (books(there.ledger), spent(there.ledger)) == ((2 * PAID, 0), (2, 2 * PAID, 0))


def test_a_call_that_was_not_billed_costs_nothing(there: Deployment):
    """Its provider could not be reached; one that broke off may be billed, and stays at its bound."""
    new, refused = slow(there)
    cut = lose(there)
    there.report(refused, lambda *_: Retry("connection refused"))
    assert there.report(cut, lambda *_: Retry("cut off", category=Category.REROUTABLE, billed=True)) == []
    there.to_the_end()
    assert books(there.ledger) == (new.money + PAID, 0)


def test_a_report_of_a_claim_that_was_completed_changes_nothing(there: Deployment):
    there.ledger.ingest([there.new()])
    claim = claim_one(there.ledger, lane=0)
    assert claim is not None
    started = there.start(claim)
    assert started is not None
    assert there.complete(started, usual)
    assert there.report(started, usual) == []
    there.to_the_end()
    assert books(there.ledger) == (PAID, 0)


def test_a_job_that_was_cancelled_pays_what_its_call_cost(there: Deployment):
    new = there.new()
    there.ledger.ingest([new])
    claim = claim_one(there.ledger, lane=0)
    assert claim is not None
    started = there.start(claim)
    assert started is not None
    there.ledger.cancel_all([Cancellation(new.id, "a", "")])
    assert books(there.ledger) == (new.money, 0)
    assert costs(there.ledger)[new.id]["bound"] == new.money
    completed = there.ledger.complete(claim.id, there.settled(started, usual), ran_ms=5, quantum_ms=1_000)
    assert completed is not None
    assert completed.thrown_away == (new.id,)
    there.report(started, usual)
    assert books(there.ledger) == (PAID, 0)
    assert spent(there.ledger) == (1, PAID, 0)


def test_a_job_that_died_of_lost_calls_is_corrected_too_and_so_is_its_replay(there: Deployment):
    new = there.new()
    budget(there.ledger, new.money * 3 // 2)
    there.ledger.ingest([new])
    claim = claim_one(there.ledger, lane=0)
    assert claim is not None
    late = kill(there, claim)
    assert late is not None
    there.ledger.reap(3)
    (letter,) = there.ledger.dead(DeadFilter())
    assert (letter.category, books(there.ledger)) == (Category.QUOTA, (new.money, 0))
    budget(there.ledger, 10**9)
    assert there.ledger.replay(DeadFilter()) == (1, 0)
    assert books(there.ledger) == (new.money, new.money)
    there.report(late, usual)
    assert books(there.ledger) == (PAID, new.money)
    there.to_the_end()
    assert books(there.ledger) == (2 * PAID, 0)
    assert (costs(there.ledger)[new.id]["amount"], spent(there.ledger)) == (PAID, (2, 2 * PAID, 0))


def test_the_key_that_sent_the_job_gets_the_rest_back(there: Deployment):
    """Also after the end, when its reservation is gone; a quota that was set since had not counted the bound."""
    budget(there.ledger, 10**9, "ever", key_id="k")
    budget(there.ledger, 10**9, "ever", key_id="other")
    budget(there.ledger, 10**9, "day")
    jobs = [there.new(), there.new()]
    lates = []
    for new in jobs:
        there.ledger.of(Quotas).reserve([WantedQuota(new.id, "a", 1, new.money, key_id="k")])
        there.ledger.ingest([new])
        lates.append(lose(there))
        with writing(there.ledger.engine) as tx:  # so that the next claim is of the next job
            tx.execute(update(STEPS).where(STEPS.c.state == "ready").values(state="held"))
    there.report(lates[0], usual)
    with writing(there.ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.state == "held").values(state="ready"))
    there.to_the_end()
    with writing(there.ledger.engine) as tx:
        now = clock(tx)
    while there.ledger.now() <= now:
        pass
    budget(there.ledger, 10**9, "month")
    there.report(lates[1], usual)
    found = {
        (quota.key_id, quota.period): (quota.used, quota.reserved) for quota in there.ledger.of(Quotas).find(["a"])
    }
    assert found == {
        ("", "ever"): (4 * PAID, 0), ("", "day"): (4 * PAID, 0), ("", "month"): (0, 0),
        ("k", "ever"): (4 * PAID, 0), ("other", "ever"): (0, 0),
    }  # fmt: skip


def test_lost_calls_are_forgotten_with_their_job(there: Deployment):
    """What a killed worker never reported does not stay for ever."""
    new, late = slow(there)
    there.to_the_end()
    spent(there.ledger)
    with writing(there.ledger.engine) as tx:
        tx.execute(update(JOBS).values(ended_at=JOBS.c.ended_at - 10**9))
    there.ledger.prune(10**6)
    assert there.ledger.read(select(JOBS.c.id)) == []
    assert there.ledger.read(select(LOST_CALLS)) == there.ledger.read(select(BOUNDS_PAID)) == []
    assert there.report(late, usual) == []
    assert books(there.ledger) == (new.money + PAID, 0)
