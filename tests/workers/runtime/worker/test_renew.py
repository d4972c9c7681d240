import time

import pytest
from sqlalchemy import select, update
from tests.services.eventually import eventually
from tests.workers.ledger_jobs import claim_one, sqlite_ledger, take_in
from tests.workers.runtime.bridge.records import generation
from tests.workers.runtime.worker.running import Notifier

from headrace_schemas.errors import Unavailable
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.progress import Progress
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS
from headrace_workers.runtime.wire.hints import Hint
from headrace_workers.runtime.worker.renew import Renewer
from headrace_workers.runtime.worker.runs import Runs


@pytest.fixture
def ledger(tmp_path):
    with sqlite_ledger(tmp_path) as ledger:
        take_in(ledger, [generation()])
        yield ledger


def lease_until(ledger):
    ((until,),) = ledger.read(select(CLAIMS.c.lease_until))
    return until


def renewer_of(ledger, notifier, lease_ms=60_000):
    return Renewer(ledger, lease_ms, Progress().loop("renew"), Runs(Progress(), Pipeline(), 600.0), notifier)


@pytest.fixture
def notifier():
    return Notifier()


@pytest.fixture
def renewing(ledger, notifier, monkeypatch):
    """A renewer that does not rest for long, and a claim that was begun with its lease."""
    renewer = renewer_of(ledger, notifier)
    monkeypatch.setattr(renewer, "_rest", lambda _seconds: renewer._stop.wait(0.01))
    claim = claim_one(ledger)
    ledger.start(claim.id, worker="w", lease_ms=60_000)
    renewer.start()
    yield renewer, claim
    renewer.stop()


def test_a_long_step_keeps_its_lease(ledger, renewing):
    renewer, claim = renewing
    with renewer.renewing(claim.id):
        assert renewer.held() == [claim.id]
        for _ in range(3):
            before = lease_until(ledger)
            eventually(lambda before=before: lease_until(ledger) > before)
        assert ledger.reap(3).crashed == 0
    assert renewer.held() == []
    eventually(lambda: at_its_end(ledger).crashed == 1)


def at_its_end(ledger):
    """What a bridge does when the lease has ended, and nobody has renewed it."""
    with writing(ledger.engine) as tx:
        tx.execute(update(CLAIMS).values(lease_until=1, renewed_at=0))
    time.sleep(0.05)  # rounds in which it might be renewed
    return ledger.reap(3)


@pytest.mark.parametrize("error", [Unavailable("away"), RuntimeError("odd")], ids=["away", "unforeseen"])
def test_renewing_goes_on_after_an_error(ledger, renewing, monkeypatch, error):
    """Whatever went wrong once, the next round renews: else every lease of the process would end."""
    renewer, claim = renewing
    renew, failures = ledger.renew, [error]

    def flaky(*args):
        if failures:
            raise failures.pop()
        return renew(*args)

    monkeypatch.setattr(ledger, "renew", flaky)
    with renewer.renewing(claim.id):
        eventually(lambda: not failures)
        with writing(ledger.engine) as tx:
            tx.execute(update(CLAIMS).values(lease_until=5))
        eventually(lambda: lease_until(ledger) > 5)


def test_what_was_let_go_of_is_given_back(ledger, renewing, monkeypatch):
    renewer, claim = renewing
    give_back, failures, calls = ledger.give_back, [Unavailable("away"), RuntimeError("odd")], []

    def flaky(*args):
        calls.append(args)
        if failures:
            raise failures.pop()
        return give_back(*args)

    monkeypatch.setattr(ledger, "give_back", flaky)
    renewer.give_up(claim.id)
    eventually(lambda: ledger.overview().claims == 0)
    eventually(lambda: not renewer._given_up)
    assert renewer.give_back() == 0
    assert len([args for args in calls if args == ([claim.id],)]) == 3


def test_bridges_are_told_of_what_was_let_go_of(renewing, notifier):
    renewer, claim = renewing
    with renewer.renewing(claim.id):
        renewer.give_up(999)
        eventually(lambda: not renewer._given_up)
    assert notifier.sent == []
    renewer.give_up(claim.id)
    eventually(lambda: notifier.sent == [Hint.WORK])
