import pytest
from sqlalchemy import update
from tests.workers.core.ledger.test_complete import dies, ends, goes_on, retries
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas import Topic
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.counts import QueueCount
from headrace_workers.core.ledger.outbox import Outgoing, put
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS, NEVER, STEPS


def begin(ledger, claim, worker="w"):
    return ledger.start(claim(limit=1).id, worker=worker, lease_ms=60_000)


def end(ledger, begun, settled):
    assert ledger.complete(begun.claim_id, [settled], ran_ms=1, quantum_ms=5_000)


@pytest.fixture
def mixed(ledger, job, claim):
    """Of each kind another number of jobs: 1 done, 2 dead, 3 cancelled, and 4 that are at their steps."""
    jobs = [job(rank=n) for n in range(10)]
    ledger.ingest(jobs)
    end(ledger, begin(ledger, claim), ends(jobs[0].id, "headrace.result.v1"))
    for n in (1, 2):
        end(ledger, begin(ledger, claim), dies(jobs[n].id))
    for n in (3, 4, 5):
        ledger.cancel(Cancellation(jobs[n].id, "a", ""))
    end(ledger, begin(ledger, claim), goes_on(jobs[6].id))  # 6 waits for its next stage
    end(ledger, begin(ledger, claim), retries(jobs[7].id, 60_000))
    begin(ledger, claim)  # 8 is in hand, 9 is ready
    return jobs


def test_an_empty_ledger_has_nothing(ledger):
    seen = ledger.overview()
    assert (seen.active, seen.done, seen.dead, seen.cancelled, seen.dead_letters) == (0, 0, 0, 0, 0)
    assert (seen.outbox, seen.claims, seen.oldest_ms, seen.ended_last_minute) == (0, 0, 0, 0)
    assert (seen.queues, seen.set_aside, seen.incidents, seen.held_by) == ((), 0, (), ())
    assert ledger.active_jobs() == 0


def test_jobs_are_counted_by_how_they_stand(ledger, mixed):
    seen = ledger.overview()
    assert (seen.done, seen.dead, seen.cancelled, seen.active) == (1, 2, 3, 4)
    assert ledger.active_jobs() == 4
    assert (seen.dead_letters, seen.outbox, seen.claims, seen.ended_last_minute) == (2, 7, 1, 6)


def test_steps_are_counted_by_queue_stage_and_lane(ledger, mixed, job):
    ledger.ingest([job(lane=0), job(queue="aa"), job(queue="zz", lane=0), job(queue="zz", lane=0)])
    assert ledger.overview().queues == (
        QueueCount("aa", "generate", 1, 1, 0),
        QueueCount("m", "moderate", 1, 1, 0),
        QueueCount("q", "generate", 0, 1, 0),
        QueueCount("q", "generate", 1, 2, 1),
        QueueCount("zz", "generate", 0, 2, 0),
    )


def test_ages_are_by_the_ledgers_clock(ledger, mixed):
    with writing(ledger.engine) as tx:
        tx.execute(
            update(JOBS).where(JOBS.c.id == mixed[0].id).values(accepted_at=1, ended_at=JOBS.c.ended_at - 60_001)
        )
        tx.execute(update(JOBS).where(JOBS.c.id == mixed[1].id).values(ended_at=JOBS.c.ended_at - 40_000))
        tx.execute(update(JOBS).where(JOBS.c.id == mixed[9].id).values(accepted_at=JOBS.c.accepted_at - 300_000))
    seen = ledger.overview()
    assert 300_000 <= seen.oldest_ms < 400_000
    assert seen.ended_last_minute == 5


def test_a_letter_that_was_replayed_is_none_that_waits(ledger, mixed):
    ledger.replay(DeadFilter(id=mixed[1].id))
    seen = ledger.overview()
    assert (seen.dead_letters, seen.dead, seen.active) == (1, 1, 5)


def test_what_was_set_aside_and_what_cannot_be_done_is_shown(ledger, mixed):
    with writing(ledger.engine) as tx:
        put(tx, [Outgoing(Topic.OUTPUTS, key, {"ce_type": "t"}, b"x") for key in (mixed[8].id, "other")])
    *_, ours, others = ledger.outbox(99)
    ledger.set_aside({ours.id: "too large", others.id: "too large"})
    ledger.tell("b", "relay", {"": "no broker"})
    seen = ledger.overview()
    assert (seen.set_aside, seen.outbox) == (2, 9)
    assert [(t.holder, t.subject, t.reason) for t in seen.incidents] == [("b", "relay", "no broker")]
    assert [aside.id for aside in ledger.job(mixed[8].id).set_aside] == [ours.id]
    assert ledger.job(mixed[9].id).set_aside == ()


def test_what_is_held_is_counted_by_stage_and_by_what_it_waits_for(ledger, job):
    away, asks = {"ready_at": 5, "reason": "it is away"}, {"ready_at": NEVER}
    held = [
        ("moderate", 30, away), ("judge", 90, asks | {"reason": "b"}), ("moderate", 50, asks | {"reason": "c"}),
        ("judge", 70, asks | {"reason": "a"}), ("answer", 20, away), ("rubric", 10, away), ("generate", 40, away),
        ("deliver", 60, asks), ("audit", 80, away), ("judge", 10, {"state": "ready"}),
    ]  # fmt: skip
    jobs = [job() for _ in held]
    ledger.ingest(jobs)
    with writing(ledger.engine) as tx:
        for item, (stage, seconds, values) in zip(jobs, held, strict=True):
            known = {"state": "held", "stage": stage, "held_at": ledger.now() - seconds * 1_000}
            tx.execute(update(STEPS).where(STEPS.c.job_id == item.id).values(known | values))
    seen = ledger.overview()
    assert seen.held == 9
    assert [(item.stage, item.needs_person, item.held, item.reason) for item in seen.held_by] == [
        ("answer", False, 1, "it is away"), ("audit", False, 1, "it is away"), ("deliver", True, 1, ""),
        ("generate", False, 1, "it is away"), ("judge", True, 2, "a"), ("moderate", False, 1, "it is away"),
        ("moderate", True, 1, "c"), ("rubric", False, 1, "it is away"),
    ]  # fmt: skip
    ages = [item.oldest_ms // 1_000 for item in seen.held_by]
    assert all(0 <= age - seconds < 300 for age, seconds in zip(ages, (20, 80, 60, 40, 90, 30, 50, 10), strict=True))
