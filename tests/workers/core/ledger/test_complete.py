from types import SimpleNamespace

import pytest
from sqlalchemy import select
from tests.workers.core.pipeline.claimed import result

from headrace_schemas import Category, Topic
from headrace_workers.core.ledger.claims import LEAST_BUDGET, QueueRoom, Wanted
from headrace_workers.core.ledger.completion import RunOver, StepResult
from headrace_workers.core.ledger.dead_letters import bury, job_burial
from headrace_workers.core.ledger.outbox import Outgoing
from headrace_workers.core.ledger.outcome import Dead, Done, Ended, Retry
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import BUDGETS, JOBS, NEVER, STEPS


def record(job_id, kind="x"):
    return Outgoing(Topic.OUTPUTS, job_id, {"ce_type": kind}, b"{}")


def goes_on(job_id):
    step = NewStep(job_id, "moderate", "m", "m", 1, 4, NEVER, 1, 10, "headrace.output.v1", b"{}")
    return StepResult(job_id, Done(), (record(job_id),), (step,))


def ends(job_id, kind="x"):
    return StepResult(job_id, Ended(result()), end=record(job_id, kind))


def retries(job_id, delay_ms, reason="later"):
    """A step that is tried again after so long."""
    return StepResult(job_id, Retry(reason), delay_ms=delay_ms)


def dies(job_id, stage="generate"):
    return StepResult(job_id, Dead(Category.PERMANENT, "because"), burial=burial(job_id, stage))


def burial(job_id, stage="generate"):
    row = SimpleNamespace(
        job_id=job_id, tenant="a", kind="generation", as_sent=b"{}", replays=0, accepted_at=0, attempts=1, subject=None,
        traceparent=None, correlationid=None,
    )  # fmt: skip
    return job_burial(row, stage, Dead(Category.PERMANENT, "because"))


@pytest.fixture
def begun(ledger, job, claim):
    ledger.ingest([job() for _ in range(3)])
    return ledger.start(claim().id, worker="w", lease_ms=60_000)


def finish(ledger, begun, settled, **changes):
    return ledger.complete(begun.claim_id, settled, **({"ran_ms": 10, "quantum_ms": 5_000} | changes))


def test_outcomes_are_written_together(ledger, begun):
    a, b, c = (row.job_id for row in begun.steps)
    assert finish(ledger, begun, [goes_on(a), retries(b, 60_000), dies(c)])
    states = {(r.job_id, r.stage): r.state for r in ledger.read(select(STEPS.c.job_id, STEPS.c.stage, STEPS.c.state))}
    assert states == {
        (a, "generate"): "done",
        (a, "moderate"): "ready",
        (b, "generate"): "waiting",
        (c, "generate"): "dead",
    }
    assert [(row.record.topic, row.record.key) for row in ledger.outbox(10)] == [(Topic.OUTPUTS, a), (Topic.DEAD, c)]
    assert ledger.overview().claims == 0


def test_a_lost_lease_changes_nothing(ledger, begun, claim):
    """A worker that was given up for dead comes back too late: the other's outcome stands."""
    ledger.release([begun.claim_id])
    other = ledger.start(claim().id, worker="w2", lease_ms=60_000)
    assert not finish(ledger, begun, [dies(row.job_id) for row in begun.steps])
    assert finish(ledger, other, [goes_on(row.job_id) for row in other.steps])
    assert ledger.overview().dead == 0


def test_full_groups_teach_the_budget(ledger, job, claim):
    ledger.ingest([job() for _ in range(3)])
    small = ledger.start(claim(limit=8).id, worker="w", lease_ms=60_000)
    finish(ledger, small, [goes_on(row.job_id) for row in small.steps], ran_ms=10)
    assert ledger.read(select(BUDGETS.c.tokens)) == []
    ledger.ingest([job(tokens=4_000) for _ in range(3)])
    full = ledger.start(claim().id, worker="w", lease_ms=60_000)
    finish(ledger, full, [goes_on(row.job_id) for row in full.steps], ran_ms=10_000)
    assert [row.tokens for row in ledger.read(select(BUDGETS.c.tokens))] == [1800]


def test_delays_are_each_their_own(ledger, begun):
    a, b, c = (row.job_id for row in begun.steps)
    settled = [retries(a, 60_000, "busy"), retries(b, 120_000, "x" * 3_000), retries(c, 0, "now")]
    done = finish(ledger, begun, settled)
    rows = {row.job_id: row for row in ledger.read(select(STEPS))}
    assert [rows[name].ready_at - done.now for name in (a, b, c)] == [60_000, 120_000, 0]
    assert [rows[name].reason for name in (a, b, c)] == ["busy", "x" * 2_000, "now"]
    assert {(row.state, row.claim_id, row.attempts) for row in rows.values()} == {("waiting", None, 1)}
    assert done.assigned == ()
    assert ledger.outbox(9) == []


def test_what_is_done_says_when(ledger, begun, claim):
    done = finish(ledger, begun, [goes_on(row.job_id) for row in begun.steps])
    (taken,) = ledger.claim([Wanted("m", 1, 1, 9)], lease_ms=60_000, sender="b").claims
    later = ledger.start(taken.id, worker="w", lease_ms=60_000)
    assert {row.payload for row in later.steps} == {b"{}"}
    settled = [ends(row.job_id, "headrace.result.v1") for row in later.steps]
    ended = finish(ledger, later, settled)
    for step in ledger.read(select(STEPS)):
        of, end = (begun, done) if step.stage == "generate" else (later, ended)
        assert (step.state, step.claim_id, step.payload) == ("done", None, None)
        assert (step.started_at, step.ended_at) == (of.now, end.now)
    for row in ledger.read(select(JOBS)):
        assert (row.state, row.ended_at, row.terminal_type) == ("done", ended.now, "headrace.result.v1")
        assert bytes(row.terminal) == b"{}"


def test_a_slow_group_teaches_its_budget_too(ledger, begun):
    settled = [retries(row.job_id, 0) for row in begun.steps]
    finish(ledger, begun, settled, ran_ms=5_000, quantum_ms=5_000)
    assert ledger.read(select(BUDGETS)) == []
    ledger.reap(3)
    (taken,) = ledger.claim([Wanted("q", 1, 1, 9)], lease_ms=60_000, sender="b").claims
    finish(ledger, ledger.start(taken.id, worker="w", lease_ms=60_000), settled, ran_ms=5_001, quantum_ms=5_000)
    (budget,) = ledger.read(select(BUDGETS))
    assert (budget.group_key, budget.tokens) == ("g", LEAST_BUDGET)
    assert abs(budget.learnt_at - ledger.now()) < 60_000


def test_what_its_worker_says_nothing_of_is_put_away(ledger, begun):
    a, *_ = (row.job_id for row in begun.steps)
    done = finish(ledger, begun, [goes_on(a)])
    rows = ledger.read(select(STEPS).where(STEPS.c.stage == "generate", STEPS.c.job_id != a))
    assert {(row.state, row.claim_id, row.ended_at) for row in rows} == {("cancelled", None, done.now)}


@pytest.mark.parametrize(
    "outcome",
    [
        goes_on,
        dies,
        ends,
        lambda job_id: retries(job_id, 60_000),
    ],
)
def test_a_job_that_died_and_was_replayed_is_no_longer_this_claims(ledger, begun, outcome):
    """Its step waits for another worker: what this one says of it is too late, though its claim holds for the rest."""
    gone, *others = (row.job_id for row in begun.steps)
    with writing(ledger.engine) as tx:
        bury(tx, [burial(gone)], 1)
    assert ledger.replay(DeadFilter()) == (1, 0)
    told = len(ledger.outbox(99))
    assert finish(ledger, begun, [outcome(gone), *(goes_on(job_id) for job_id in others)])
    rows = ledger.read(select(STEPS.c.stage, STEPS.c.state).where(STEPS.c.job_id == gone))
    assert rows == [("generate", "ready")]
    assert ledger.job(gone).job.state == "active"
    assert sorted(row.record.key for row in ledger.outbox(99)[told:]) == sorted(others)


def test_a_retry_of_another_model_is_ready_at_once_in_its_queue(ledger, begun):
    moved, stays, there = (row.job_id for row in begun.steps)
    other = {"queue": "model.b", "group_key": "generate|b", "prefix": 7, "tokens": 99, "context": b'{"tried": 1}'}
    items = [
        StepResult(moved, Retry("down"), delay_ms=0, **other),
        StepResult(stays, Retry("down"), delay_ms=5_000, context=b'{"tried": 2}'),
        retries(there, 0),
    ]
    ledger.complete(begun.claim_id, items, ran_ms=1, quantum_ms=1_000)
    names = ("state", "queue", "group_key", "prefix", "tokens", "context", "attempts")
    found = {row.job_id: row for row in ledger.read(select(STEPS))}
    told = {job: tuple(getattr(row, name) for name in names) for job, row in found.items()}
    assert told[moved] == ("ready", "model.b", "generate|b", 7, 99, b'{"tried": 1}', 1)
    before = {row.job_id: row for row in begun.steps}
    assert told[stays][0] == told[there][0] == "waiting"
    assert (told[stays][1], told[stays][4], told[stays][5]) == (begun.queue, before[stays].tokens, b'{"tried": 2}')
    assert told[there][5] is None


def test_claims_that_are_completed_together_keep_their_own_outcomes(ledger, job, claim):
    ledger.ingest([job(job_id=f"{name}0000000-0000-4000-8000-000000000000") for name in "abcd"])
    begun = [ledger.start(claim(limit=1).id, worker="w", lease_ms=60_000) for _ in range(4)]
    a, b, c, d = ((item.claim_id, item.steps[0].job_id) for item in begun)
    ledger.release([d[0]])
    runs = [
        RunOver(claim_id, [settled], ran_ms=1, quantum_ms=5_000)
        for (claim_id, job_id), settled in zip(
            (a, b, c, d), (goes_on(a[1]), goes_on(b[1]), ends(c[1]), ends(d[1])), strict=True
        )
    ]
    over = ledger.complete_together(runs, QueueRoom({("m", 1): 2}, "w", 60_000))
    assert {claim_id: [end.key for end in item.ended] for claim_id, item in over.of.items()} == {
        a[0]: [],
        b[0]: [],
        c[0]: [c[1]],
    }
    assert [(item.queue, item.size) for item in over.assigned] == [("m", 2)]
    states = {(r.job_id, r.stage): r.state for r in ledger.read(select(STEPS.c.job_id, STEPS.c.stage, STEPS.c.state))}
    assert states == {
        (a[1], "generate"): "done",
        (a[1], "moderate"): "leased",
        (b[1], "generate"): "done",
        (b[1], "moderate"): "leased",
        (c[1], "generate"): "done",
        (d[1], "generate"): "ready",
    }
    began = {
        r.job_id: r.started_at
        for r in ledger.read(select(STEPS.c.job_id, STEPS.c.started_at, STEPS.c.stage))
        if r.stage == "generate"
    }
    assert {began[job_id] for _, job_id in (a, b, c)} <= {item.now for item in begun}
