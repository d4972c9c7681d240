import pytest
from sqlalchemy import select
from tests.services.backup import dump, restore

from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Done
from headrace_workers.core.tables import CLAIMS, STEPS

LEASE = 60_000


@pytest.fixture
def before(ledger, ledger_url, job, tmp_path):
    """A ledger with two jobs that nobody has claimed, and what makes it that again."""
    ledger.ingest([job() for _ in range(2)])
    dump(ledger_url, tmp_path / "dump")
    return lambda: restore(ledger_url, tmp_path / "dump")


def test_a_claim_of_before_changes_nothing_after(ledger, ledger_url, claim, before):
    old = claim(limit=1)
    started = ledger.start(old.id, worker="w", lease_ms=LEASE)
    before()
    again = Ledger.at(ledger_url)
    try:
        new = claim(limit=1)
        assert again.start(new.id, worker="other", lease_ms=LEASE) is not None
        assert new.id != old.id
        (job_id,) = (step.job_id for step in started.steps)
        assert ledger.complete(old.id, [StepResult(job_id, Done())], ran_ms=1, quantum_ms=1_000) is None
        assert ledger.renew([old.id], LEASE) == frozenset()
        assert ledger.release([old.id]) == 0
        held = ledger.read(select(CLAIMS.c.id, CLAIMS.c.worker))
        assert [tuple(row) for row in held] == [(new.id, "other")]
        leased = ledger.read(select(STEPS.c.claim_id).where(STEPS.c.state == "leased"))
        assert [row.claim_id for row in leased] == [new.id]
    finally:
        again.close()


def test_ids_of_claims_use_all_that_both_databases_hold(ledger, job, claim):
    ledger.ingest([job() for _ in range(24)])
    ids = [claim(limit=1).id for _ in range(24)]
    assert len(set(ids)) == 24
    assert 2**53 < max(ids) < 2**63
    assert min(ids) > 2**32
    assert ids != sorted(ids)
