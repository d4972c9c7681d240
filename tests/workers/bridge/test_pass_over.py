"""What waits for a worker that is not there goes on without."""

import pytest
from sqlalchemy import select, update
from tests.workers.ledger.conftest import ledger, ledger_url  # noqa: F401 - fixtures
from tests.workers.ledger_jobs import claim_one, take_in

from headrace_schemas import GenerationJob
from headrace_workers.bridge.pass_over import PassOver
from headrace_workers.ledger.database import writing
from headrace_workers.ledger.tables import CLAIMS, STEPS
from headrace_workers.pipeline.carried import unpack
from headrace_workers.pipeline.routing import Pipeline


def job(**fields):
    """One that asks for the cache."""
    return GenerationJob.model_validate({"model": "echo", "prompt": "p", "cache": "exact"} | fields)


def look(ledger, served=frozenset()):  # noqa: F811
    """Once, a while later."""
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(ready_at=STEPS.c.ready_at - 5_000))
        tx.execute(update(CLAIMS).values(claimed_at=CLAIMS.c.claimed_at - 5_000))
    return PassOver(ledger=ledger, pipeline=Pipeline(), served=lambda _queues: served).once()


def steps(ledger):  # noqa: F811
    """Stage, queue and state of each step."""
    return sorted(ledger.read(select(STEPS.c.stage, STEPS.c.queue, STEPS.c.state)))


def test_jobs_that_only_asked_for_the_cache_go_on(ledger):  # noqa: F811
    """Those that were handed out and not begun, too; their receipts will say why."""
    take_in(ledger, [job(idempotency_key=str(number)) for number in range(3)])
    assert claim_one(ledger, "recall", limit=1) is not None
    assert look(ledger) == 3
    assert steps(ledger) == [("generate", "model.echo", "ready")] * 3
    assert claim_one(ledger).size == 3
    contexts = {unpack(row.context)[0]["recall"]["refused"] for row in ledger.read(select(STEPS.c.context))}
    assert contexts == {"no worker with the role recall was running"}
    assert look(ledger) == 0


@pytest.mark.parametrize("served", [frozenset({"recall"}), None])
def test_with_a_worker_they_wait(ledger, served):  # noqa: F811
    """However long; and where nobody can say whether there is one."""
    take_in(ledger, [job()])
    assert look(ledger, served) == 0
    assert steps(ledger) == [("recall", "recall", "ready")]


def test_what_was_begun_is_left(ledger):  # noqa: F811
    """Its worker may be slow, or its lease will end."""
    take_in(ledger, [job()])
    ledger.start(claim_one(ledger, "recall").id, worker="w", lease_ms=60_000)
    assert look(ledger) == 0
    assert steps(ledger) == [("recall", "recall", "leased")]


def test_who_did_not_wait_is_not_asked_about(ledger):  # noqa: F811
    """A worker may take it at any moment, and Redis is asked for nothing."""
    take_in(ledger, [job()])
    assert PassOver(ledger=ledger, pipeline=Pipeline(), served=lambda _queues: 1 / 0).once() == 0
