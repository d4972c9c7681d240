"""The end of a claim."""

import pytest
from sqlalchemy import select

from headrace_schemas import Category, Topic
from headrace_workers.ledger.cancel import Cancellation
from headrace_workers.ledger.complete import Advanced, Postponed
from headrace_workers.ledger.database import writing
from headrace_workers.ledger.dead import bury, job_burial
from headrace_workers.ledger.ingest import NewStep
from headrace_workers.ledger.outbox import Outgoing
from headrace_workers.ledger.replay import DeadFilter
from headrace_workers.ledger.tables import BUDGETS, JOBS, NEVER, STEPS


def record(job_id, kind="x"):
    """A record that says something about a job."""
    return Outgoing(Topic.OUTPUTS, job_id, {"ce_type": kind}, b"{}")


def onward(job_id):
    """A step that is done, with another behind it."""
    step = NewStep(job_id, "moderate", "m", "m", 1, 4, NEVER, 1, 10, "headrace.output.v1", b"{}")
    return Advanced(job_id, record(job_id), (step,))


def burial(job_id, stage="generate"):
    """The end of a job in `dead`."""
    return job_burial(
        job_id=job_id, tenant="a", kind="generation", payload=b"{}", replays=0, traceparent=None, correlationid=None,
        stage=stage, attempts=1, category=Category.PERMANENT, reason="because",
    )  # fmt: skip


@pytest.fixture
def begun(ledger, job, claim):
    """A claim of three jobs in a worker's hands."""
    ledger.ingest([job() for _ in range(3)])
    return ledger.start(claim().id, worker="w", lease_ms=60_000)


def finish(ledger, begun, settled, **changes):
    """Complete with the usual figures."""
    return ledger.complete(begun.claim_id, settled, **({"ran_ms": 10, "quantum_ms": 5_000} | changes))


def test_outcomes_are_written_together(ledger, begun):
    """One step goes on, one waits, one dies: the ledger and the outbox tell the same."""
    a, b, c = (row.job_id for row in begun.steps)
    assert finish(ledger, begun, [onward(a), Postponed(b, 60_000, "later"), burial(c)])
    states = {(r.job_id, r.stage): r.state for r in ledger.read(select(STEPS.c.job_id, STEPS.c.stage, STEPS.c.state))}
    assert states == {
        (a, "generate"): "done",
        (a, "moderate"): "ready",
        (b, "generate"): "waiting",
        (c, "generate"): "dead",
    }
    assert [(row.record.topic, row.record.key) for row in ledger.outbox(10)] == [(Topic.OUTPUTS, a), (Topic.DEAD, c)]
    assert ledger.overview().claims == 0


def test_the_last_step_ends_the_job_once(ledger, begun):
    """A terminal record is kept with the job, and a second completion changes nothing."""
    a = begun.steps[0].job_id
    rest = [onward(row.job_id) for row in begun.steps[1:]]
    assert finish(ledger, begun, [Advanced(a, record(a, "headrace.result.v1")), *rest])
    assert not finish(ledger, begun, [Advanced(a, record(a, "headrace.result.v1")), *rest])
    assert ledger.terminals([a]) == {a: ("headrace.result.v1", b"{}")}
    assert len(ledger.outbox(10)) == 3


def test_a_lost_lease_changes_nothing(ledger, begun, claim):
    """A worker that was given up for dead comes back too late: the other's outcome stands."""
    ledger.release([begun.claim_id])
    other = ledger.start(claim().id, worker="w2", lease_ms=60_000)
    assert not finish(ledger, begun, [burial(row.job_id) for row in begun.steps])
    assert finish(ledger, other, [onward(row.job_id) for row in other.steps])
    assert ledger.overview().dead == 0


def test_a_job_cancelled_while_it_runs_publishes_only_that(ledger, begun):
    """The answer of a cancelled job is thrown away; its neighbours' are not."""
    a, b, c = (row.job_id for row in begun.steps)
    assert ledger.cancel(Cancellation(a, "a", "no longer needed")) == "cancelled"
    assert finish(ledger, begun, [Advanced(a, record(a)), onward(b), onward(c)])
    kinds = [(row.record.key, row.record.headers["ce_type"]) for row in ledger.outbox(10)]
    assert sorted(kinds) == sorted([(a, "headrace.job.cancelled.v1"), (b, "x"), (c, "x")])


def test_cancel_is_well_defined_before_and_after(ledger, job, begun):
    """Before a job arrives it is cancelled ahead, after its end nothing happens, and only its tenant may."""
    late = job()
    assert ledger.cancel(Cancellation(late.id, "a", "")) == "cancelled_ahead"
    assert ledger.ingest([late]) == 0
    a = begun.steps[0].job_id
    assert ledger.cancel(Cancellation(a, "someone", "")) == "not_yours"
    finish(ledger, begun, [Advanced(row.job_id, record(row.job_id)) for row in begun.steps])
    assert ledger.cancel(Cancellation(a, "a", "")) == "already_ended"


def test_full_groups_teach_the_budget(ledger, job, claim):
    """A small group that was quick says nothing about the budget; one that the budget ended does."""
    ledger.ingest([job() for _ in range(3)])
    small = ledger.start(claim(limit=8).id, worker="w", lease_ms=60_000)
    finish(ledger, small, [onward(row.job_id) for row in small.steps], ran_ms=10)
    assert ledger.read(select(BUDGETS.c.tokens)) == []
    ledger.ingest([job(tokens=4_000) for _ in range(3)])
    full = ledger.start(claim().id, worker="w", lease_ms=60_000)
    finish(ledger, full, [onward(row.job_id) for row in full.steps], ran_ms=10_000)
    assert [row.tokens for row in ledger.read(select(BUDGETS.c.tokens))] == [1800]


def test_a_done_step_keeps_no_payload(ledger, begun):
    """What was read is not kept twice: only the step that follows carries the event."""
    finish(ledger, begun, [onward(row.job_id) for row in begun.steps])
    rows = ledger.read(select(STEPS.c.stage, STEPS.c.payload, JOBS.c.state).join(JOBS, JOBS.c.id == STEPS.c.job_id))
    assert {(r.stage, r.payload is None, r.state) for r in rows} == {
        ("generate", True, "active"),
        ("moderate", False, "active"),
    }


@pytest.mark.parametrize("outcome", [onward, burial, lambda job_id: Advanced(job_id, record(job_id))])
def test_a_job_that_died_and_was_replayed_is_no_longer_this_claims(ledger, begun, outcome):
    """Its step waits for another worker: what this one says of it is too late, though its claim holds for the rest."""
    gone, *others = (row.job_id for row in begun.steps)
    with writing(ledger.engine) as tx:
        bury(tx, [burial(gone)], 1)
    assert ledger.replay(DeadFilter()) == (1, 0)
    told = len(ledger.outbox(99))
    assert finish(ledger, begun, [outcome(gone), *(onward(job_id) for job_id in others)])
    rows = ledger.read(select(STEPS.c.stage, STEPS.c.state).where(STEPS.c.job_id == gone))
    assert rows == [("generate", "ready")]
    assert ledger.job(gone).job.state == "active"
    assert sorted(row.record.key for row in ledger.outbox(99)[told:]) == sorted(others)
