import pytest
from sqlalchemy import select, update
from tests.workers.core.ledger.conftest import ledger, ledger_url  # noqa: F401 - fixtures
from tests.workers.ledger_jobs import claim_one, take_in
from tests.workers.runtime.bridge.records import embedding, evaluation, moderation

from headrace_schemas import GenerationJob
from headrace_workers.core.ledger import unserved_steps
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.task import unpack
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, STEPS
from headrace_workers.runtime.bridge.reap import StageSkipper


def job(**fields):
    return GenerationJob.model_validate({"model": "echo", "prompt": "p", "cache": "exact"} | fields)


def look(ledger, served=frozenset()):  # noqa: F811
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(ready_at=STEPS.c.ready_at - 5_000))
        tx.execute(update(CLAIMS).values(claimed_at=CLAIMS.c.claimed_at - 5_000))
    return StageSkipper(ledger=ledger, pipeline=Pipeline(), served=lambda _queues: served).once()


def steps(ledger):  # noqa: F811
    """Stage, queue and state of each step."""
    return sorted(ledger.read(select(STEPS.c.stage, STEPS.c.queue, STEPS.c.state)))


def test_jobs_that_only_asked_for_the_cache_go_on(ledger):  # noqa: F811
    turns = [{"role": "system", "content": "You answer for a shop. " * 40}, {"role": "user", "content": "p"}]
    take_in(ledger, [job(idempotency_key=str(number), prompt=None, messages=turns) for number in range(3)])
    assert claim_one(ledger, "recall", limit=1) is not None
    assert ledger.read(select(STEPS.c.prefix).distinct()) == [(None,)]
    assert look(ledger) == 3
    assert steps(ledger) == [("generate", "model.echo", "ready")] * 3
    ((prefix,),) = ledger.read(select(STEPS.c.prefix).distinct())  # they are claimed together
    assert prefix is not None
    assert claim_one(ledger).size == 3
    contexts = {unpack(row.context)[0]["recall"]["refused"] for row in ledger.read(select(STEPS.c.context))}
    assert contexts == {"no worker with the role recall was running"}
    assert look(ledger) == 0


@pytest.mark.parametrize("served", [frozenset({"recall"}), None])
def test_with_a_worker_they_wait(ledger, served):  # noqa: F811
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
    take_in(ledger, [job()])
    assert StageSkipper(ledger=ledger, pipeline=Pipeline(), served=lambda _queues: 1 / 0).once() == 0


def test_who_needs_what_it_makes_waits_and_says_for_what(ledger):  # noqa: F811
    take_in(ledger, [job(knowledge="docs", idempotency_key=str(number)) for number in range(3)])
    take_in(ledger, [job(idempotency_key="4")])
    assert claim_one(ledger, "recall", limit=2) is not None
    assert look(ledger) == 1
    assert steps(ledger) == [("generate", "model.echo", "ready")] + [("recall", "recall", "ready")] * 3
    reasons = {row.reason for row in ledger.read(select(STEPS.c.reason).where(STEPS.c.stage == "recall"))}
    assert reasons == {
        "no worker with the role recall was running, which this job needs: `headrace worker --role recall` starts one"
    }
    assert claim_one(ledger, "recall", limit=9).size == 3


def test_those_that_wait_are_looked_at_once(ledger, monkeypatch):  # noqa: F811
    monkeypatch.setattr(unserved_steps, "AT_ONCE", 2)
    take_in(ledger, [job(knowledge="docs", idempotency_key=str(number)) for number in range(4)])
    take_in(ledger, [job(idempotency_key="5")])
    assert sum(look(ledger) for _ in range(3)) == 1


@pytest.mark.parametrize(
    ("asked", "queue", "role"),
    [(embedding(), "embed", "recall"), (moderation(), "moderate", "moderate"), (evaluation(), "judge", "judge")],
    ids=["embedding", "moderation", "evaluation"],
)
def test_other_kinds_wait_at_their_first_stage_and_say_for_what(ledger, asked, queue, role):  # noqa: F811
    take_in(ledger, [asked])
    assert look(ledger) == 0
    ((reason,),) = ledger.read(select(STEPS.c.reason))
    assert reason == (
        f"no worker with the role {role} was running, which this job needs: `headrace worker --role {role}` starts one"
    )
    assert claim_one(ledger, queue).size == 1
