"""Audits of the cache under a budget: they ask a model again, and pay for it as jobs do."""

from datetime import date
from typing import Any

import pytest
from sqlalchemy import select
from tests.workers.core.ledger.budget_deployment import CENT, Deployment, Given, books, budget, kill
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
from tests.workers.ledger_jobs import claim_one

from headrace_schemas import Answer, GenerationJob, Output, Usage
from headrace_workers.core.ledger.accounting import account
from headrace_workers.core.ledger.claims import Claim
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Done, Outcome
from headrace_workers.core.ledger.steps import BATCH
from headrace_workers.core.pipeline.settle import Conditions, settle, task_of
from headrace_workers.core.sql.database import clock, writing
from headrace_workers.features.cache.auditing import Auditing, twice
from headrace_workers.features.cache.store.audit_rows import Audited, NewAudit
from headrace_workers.features.cache.store.entries import Served
from headrace_workers.features.cache.tables import AUDITS
from headrace_workers.features.spend.store import Spending

JOB = GenerationJob(model="echo", prompt="Who?", tenant="a", sampling={"max_tokens": 16})
ANSWER = Answer(
    text="Ann.", finish_reason="stop", model="echo", quantization="none",
    usage=Usage(prompt_tokens=0, completion_tokens=0),
)  # fmt: skip


@pytest.fixture
def there(ledger: Ledger) -> Deployment:
    """A deployment whose model `echo` has a price."""
    return Deployment(ledger, Given(echo=CENT))


def drawn(there: Deployment, *, again: bool = False) -> NewAudit:
    """An audit of an answer that was served; of one that is answered twice with `again`."""
    for number in range(200):
        job_id = f"00000000-0000-5000-8000-{number:012d}"
        served = Served(
            job_id=job_id, entry_id=7, tenant="a", scope="ab" * 32, tier="semantic", similarity=0.95, first_job=job_id,
            saved_tokens=1, saved_ms=1.0,
        )  # fmt: skip
        output = Output(job_id=job_id, tenant="a", answer=ANSWER)
        _, audit = Auditing(there.pipeline, 1.0).draw(served, JOB.question, output, JOB)
        assert isinstance(audit, NewAudit)
        if twice(audit.id) == again:
            return audit
    raise AssertionError("no such audit is drawn")


def make(there: Deployment, *, again: bool = False) -> tuple[str, int]:
    """Write an audit; its id, and the most that it may cost."""
    audit = drawn(there, again=again)
    with writing(there.ledger.engine) as tx:
        audit.write(tx)
    assert audit.afresh is not None
    assert audit.afresh.call.most is not None
    return audit.id, audit.afresh.call.most


def take(there: Deployment) -> Claim | None:
    return claim_one(there.ledger, "model.echo", lane=BATCH)


def run(there: Deployment, outcome: Any) -> None:
    claim = take(there)
    assert claim is not None
    started = there.start(claim)
    assert started is not None
    conditions = Conditions(there.pipeline, 3, there.random, ran_ms=5.0)
    settled = [
        settle(started, row, task_of(row, started.now), outcome(row.job_id), conditions) for row in started.steps
    ]
    assert there.ledger.complete(started.claim_id, settled, ran_ms=5, quantum_ms=1_000)


def answered(name: str) -> Outcome:
    return Done(rows=(Audited(name, "clean", "the same"),), usage=Usage(prompt_tokens=7, completion_tokens=3))


def labels(there: Deployment) -> list[tuple[str | None, str | None]]:
    """The label of each audit, and the reason."""
    return [tuple(row) for row in there.ledger.read(select(AUDITS.c.label, AUDITS.c.reason))]


def by_day(there: Deployment) -> int:
    with writing(there.ledger.engine) as tx:
        account(tx, clock(tx))
    rows, _ = there.ledger.of(Spending).spent(["tenant"], date.min, date.max)
    return sum(row.amount for row in rows)


def test_an_audit_reserves_its_call_and_pays_what_it_cost(there: Deployment):
    budget(there.ledger, 10**9)
    _, most = make(there)
    assert books(there.ledger) == (0, most)
    run(there, answered)
    assert books(there.ledger) == (130, 0)
    assert by_day(there) == 130
    assert labels(there) == [("clean", "the same")]


def test_an_audit_that_is_answered_twice_reserves_twice(there: Deployment):
    budget(there.ledger, 10**9)
    assert make(there, again=True)[1] == 2 * drawn(there).afresh.call.most  # type: ignore[union-attr]


def test_an_audit_that_the_budget_does_not_hold_is_given_up(there: Deployment):
    """It is unknown, so that the bound of the scope does not take it for clean, and no model is asked."""
    budget(there.ledger, 10)
    make(there)
    ((label, reason),) = labels(there)
    assert (label, "the next call of a model may cost more than is left" in (reason or "")) == ("unknown", True)
    assert take(there) is None
    assert books(there.ledger) == (0, 0)


def test_a_killed_audit_is_charged_with_the_most(there: Deployment):
    budget(there.ledger, 10**9)
    _, most = make(there)
    claim = take(there)
    assert claim is not None
    kill(there, claim)
    there.ledger.reap(3)
    assert books(there.ledger) == (0, 2 * most)
    run(there, answered)
    assert books(there.ledger) == (most + 130, 0)
    assert by_day(there) == most + 130
