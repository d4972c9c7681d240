"""Verifiers under a budget: each call is reserved in the transaction that routes to it, and pays what it cost."""

from typing import Any

import pytest
from sqlalchemy import select
from tests.workers.core.ledger.budget_deployment import (
    CENT,
    VERIFIED,
    Deployment,
    Given,
    books,
    budget,
    costs,
)
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
from tests.workers.ledger_jobs import claim_one

from headrace_schemas import Category
from headrace_workers.core.ledger.charges import UNKNOWN
from headrace_workers.core.ledger.claims import Claim
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Done, Outcome
from headrace_workers.core.ledger.steps import BATCH
from headrace_workers.core.pipeline.settle import Conditions, settle, task_of
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.access.tables import RESERVATIONS
from headrace_workers.features.cache.auditing import AuditLabels
from headrace_workers.features.cache.store.audit_rows import Audited, NewAudit
from headrace_workers.features.cache.store.audits import Audits
from headrace_workers.features.cache.tables import AUDITS


def verifying(ledger: Ledger, **prices: Any) -> Deployment:
    """A deployment whose verifier is the model `other`."""
    return Deployment(ledger, Given(**({"echo": CENT, "other": CENT} | prices)), verifier="other")


@pytest.fixture
def there(ledger: Ledger) -> Deployment:
    return verifying(ledger)


def test_a_verifiers_call_is_reserved_beside_the_answer(there: Deployment):
    """What admission reserved for the answer stays so: the verifier's call must not take its place."""
    budget(there.ledger, 10**9)
    job = there.new(cache="semantic")
    there.ledger.ingest([job])
    before = books(there.ledger)
    there.run("recall")
    assert before == (0, job.money)
    spent, reserved = books(there.ledger)
    assert (spent, reserved > before[1] + 1_500 * 20) == (0, True)
    there.to_the_end()
    (cost,) = costs(there.ledger).values()
    assert {model["model"]: model["amount"] for model in cost["models"]} == {"other": 440, "echo": 130}
    assert books(there.ledger) == (570, 0)


def test_a_verifiers_call_that_the_budget_does_not_hold_ends_the_job(there: Deployment):
    job = there.new(cache="semantic")
    budget(there.ledger, job.money + 100)
    there.ledger.ingest([job])
    there.run("recall")
    (row,) = there.ledger.read(select(JOBS.c.state, JOBS.c.terminal))
    assert (row.state, Category.QUOTA in row.terminal.decode()) == ("dead", True)
    assert claim_one(there.ledger, "model.other") is None
    assert books(there.ledger) == (0, 0)


def test_a_verifier_whose_price_is_not_known_is_refused_under_a_budget(ledger: Ledger):
    there = verifying(ledger, other=UNKNOWN)
    budget(ledger, 10**9)
    assert ledger.ingest([there.new(cache="semantic")]).new == 0
    assert ledger.ingest([there.new()]).new == 1


def unlabelled(there: Deployment) -> None:
    audit = NewAudit(
        id="00000000-0000-5000-8000-00000000000a", kind="shadow", job_id="00000000-0000-5000-8000-00000000000b",
        entry_id=7, tenant="a", scope="ab" * 32, similarity=0.9, stratum=1, share=1.0, question="Who?", served="Ann.",
    )  # fmt: skip
    with writing(there.ledger.engine) as tx:
        audit.write(tx)
        Audited(audit.id, "unknown", "they differ", "It was Ann.").write(tx)


def ask(there: Deployment) -> None:
    audits = there.ledger.of(Audits)
    labels = AuditLabels("other", there.prices)
    audits.ask([labels.work(row) for row in audits.unverified(9)], labels.by)


def labels(there: Deployment) -> list[tuple[str | None, str | None]]:
    """The label of each audit, and who gave it."""
    return [tuple(row) for row in there.ledger.read(select(AUDITS.c.label, AUDITS.c.labelled_by))]


def test_a_label_reserves_its_call_and_pays_what_it_cost(there: Deployment):
    budget(there.ledger, 10**9)
    unlabelled(there)
    ask(there)
    ask(there)
    assert books(there.ledger)[1] > 1_500 * 20
    claim = claim_one(there.ledger, "model.other", lane=BATCH)
    assert claim is not None
    run_label(there, claim)
    assert labels(there) == [("clean", "verifier:other")]
    assert books(there.ledger) == (440, 0)
    assert there.ledger.read(select(RESERVATIONS)) == []


def run_label(there: Deployment, claim: Claim, outcome: Outcome | None = None) -> None:
    """Run a group of labels: each is clean, or comes to this outcome."""
    started = there.start(claim)
    assert started is not None
    conditions = Conditions(there.pipeline, 3, there.random, ran_ms=5.0)
    settled = [
        settle(
            started, row, task_of(row, started.now),
            outcome or Done(rows=(Audited(row.subject, "clean", "the same", by="verifier:other"),), usage=VERIFIED),
            conditions,
        )
        for row in started.steps
        if row.subject is not None
    ]  # fmt: skip
    assert there.ledger.complete(started.claim_id, settled, ran_ms=5, quantum_ms=1_000)
