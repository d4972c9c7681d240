"""Audits that cannot be answered afresh: they are unknown, nobody hears of it, and who comes later does them."""

import pytest
from sqlalchemy import select, update
from tests.workers.features.cache.semantic.test_audits import BATCH, audits, like, run, semantic, serve  # noqa: F401 - a fixture

from headrace_schemas import Category, HeadraceError
from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, DEAD_LETTERS, JOBS, OUTBOX, STEPS
from headrace_workers.models.engines.echo import EchoGenerator


@pytest.mark.parametrize("how", ["expired", "poison", "forgotten"])
def test_an_audit_that_cannot_be_run_dies_in_silence(semantic, asks, how):  # noqa: F811
    serve(semantic, asks, 3, like(9))
    (waits,) = audits(semantic)
    events = len(semantic.ledger.read(select(OUTBOX.c.id)))
    _end(semantic, waits.id, how)
    assert semantic.standings.once() == 1
    (lost,) = audits(semantic)
    assert (lost.label, lost.labelled_by) == ("unknown", "headrace")
    assert lost.reason.startswith("given up")
    assert len(semantic.ledger.read(select(OUTBOX.c.id))) == events
    assert semantic.ledger.read(select(DEAD_LETTERS)) == []
    assert semantic.ledger.replay(DeadFilter()) == (0, 0)
    assert run(semantic) == 0


def _end(flow, audit_id, how):
    if how == "poison":
        for _ in range(3):  # it kills its worker each time
            (row,) = flow.ledger.claim([Wanted("model.echo", BATCH, 1, 8)], lease_ms=60_000, sender="b").claims
            flow.ledger.start(row.id, worker="w", lease_ms=60_000)
            with writing(flow.ledger.engine) as tx:
                tx.execute(update(CLAIMS).values(lease_until=1))
            flow.ledger.reap(3)
    with writing(flow.ledger.engine) as tx:
        if how == "expired":
            tx.execute(update(STEPS).where(STEPS.c.job_id == audit_id).values(deadline=1))
        if how == "forgotten":
            tx.execute(STEPS.delete().where(STEPS.c.job_id == audit_id))
            tx.execute(JOBS.delete().where(JOBS.c.id == audit_id))
    flow.ledger.reap(3)


@pytest.mark.parametrize(("category", "attempts"), [(Category.PERMANENT, 1), (Category.TRANSIENT, 3)])
def test_a_model_that_cannot_answer_leaves_it_unknown(semantic, asks, monkeypatch, category, attempts):  # noqa: F811
    serve(semantic, asks, 3, like(9))

    class Refused(HeadraceError):
        """No."""

    Refused.category = category
    tried = []
    monkeypatch.setattr(EchoGenerator, "generate", lambda _self, requests: tried.append(1) or [Refused("no")])
    for _ in range(5):
        run(semantic)
        with writing(semantic.ledger.engine) as tx:
            tx.execute(update(STEPS).where(STEPS.c.state == "waiting").values(state="ready"))
    (lost,) = audits(semantic)
    assert (lost.label, lost.reason, len(tried)) == ("unknown", "given up: no", attempts)
    assert semantic.ledger.read(select(DEAD_LETTERS)) == []


def test_a_worker_that_lost_its_lease_writes_nothing(semantic, asks):  # noqa: F811
    serve(semantic, asks, 3, like(9))
    (claim,) = semantic.ledger.claim([Wanted("model.echo", BATCH, 1, 8)], lease_ms=60_000, sender="b").claims
    started = semantic.ledger.start(claim.id, worker="dead", lease_ms=60_000)
    with writing(semantic.ledger.engine) as tx:
        tx.execute(update(CLAIMS).values(lease_until=1))
    semantic.ledger.reap(3)
    settled = semantic.work.do(started)
    assert semantic.ledger.complete(claim.id, settled, ran_ms=1, quantum_ms=5_000) is None
    assert audits(semantic)[0].label is None
    assert run(semantic) == 1
    assert audits(semantic)[0].label == "wrong"
