import time

import pytest
from sqlalchemy import event, select, update
from tests.workers.core.ledger.dying import begin, run_out

from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.claims import LARGEST_BYTES
from headrace_workers.core.ledger.recovery import Due, Reaped, expire, promote
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, JOBS, LOOKS, NEVER, STEPS
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.runtime.bridge.reap import Reap


def done_behind(ledger, job_id):
    """Give a job a step that it has behind it, with the deadline of the other."""
    with writing(ledger.engine) as tx:
        (step,) = tx.execute(select(STEPS).where(STEPS.c.job_id == job_id)).mappings()
        tx.execute(STEPS.insert(), [dict(step) | {"stage": "before", "state": "done"}])


def test_what_a_job_has_behind_it_stays_done(ledger, job, claim):
    ledger.ingest([only := job()])
    done_behind(ledger, only.id)
    begin(ledger, claim())
    run_out(ledger)
    assert ledger.reap(3).crashed == 1
    assert dict(ledger.read(select(STEPS.c.stage, STEPS.c.state))) == {"before": "done", "generate": "ready"}
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(deadline=1))
    with writing(ledger.engine) as tx:
        assert expire(tx) == 1
    assert dict(ledger.read(select(STEPS.c.stage, STEPS.c.state))) == {"before": "done", "generate": "dead"}
    (letter,) = ledger.dead(DeadFilter())
    assert letter.stage == "generate"


def test_what_expires_is_bounded_in_bytes(ledger, job):
    ledger.ingest([job(deadline=ledger.now() + 1) for _ in range(5)])
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(read_bytes=LARGEST_BYTES // 2))
    time.sleep(0.02)
    left = []
    for _ in range(3):
        with writing(ledger.engine) as tx:
            expire(tx)
        left.append(ledger.active_jobs())
    assert left == [3, 1, 0]


def test_many_jobs_with_one_deadline_end_once_each(ledger, job, monkeypatch):
    """In several transactions, and several looks: each has one terminal record and one letter, its quota is settled,
    and who waited for it is ready; a unit has no record. The last look tells that there is no more.
    """
    monkeypatch.setattr("headrace_workers.core.ledger.ledger.EXPIRED_AT_ONCE", 4)
    monkeypatch.setattr("headrace_workers.core.ledger.recovery.EXPIRED_AT_ONCE", 2)
    ledger.of(Quotas).put("a", 1_000, "ever")
    late = [job(deadline=ledger.now() + 1) for _ in range(7)]
    ledger.ingest([*late, waiter := job()])
    with writing(ledger.engine) as tx:
        mine = STEPS.c.job_id == waiter.id
        tx.execute(update(STEPS).where(mine).values(state="parked", waits_for=late[0].id, ready_at=NEVER))
        tx.execute(update(JOBS).where(JOBS.c.id == late[1].id).values(subject=late[0].id, kind="unit"))
    time.sleep(0.02)
    found = [ledger.reap(3) for _ in range(3)]
    assert [(item.expired, item.more) for item in found] == [(4, True), (3, False), (0, False)]
    told = [row.record for row in ledger.outbox(99)]
    assert sorted(item.key for item in told) == sorted(item.id for item in late if item is not late[1])
    assert {item.headers["ce_type"] for item in told} == {"headrace.dead.v1"}
    assert len(ledger.dead(DeadFilter())) == 7
    rows = ledger.read(select(JOBS.c.terminal).where(JOBS.c.state == "dead"))
    assert sorted(bytes(row.terminal or b"") for row in rows) == sorted([b"", *(item.value for item in told)])
    assert [(row.reserved, row.used) for row in ledger.of(Quotas).find()] == [(10, 0)]  # the waiter's
    assert ledger.read(select(STEPS.c.state).where(STEPS.c.job_id == waiter.id)) == [("ready",)]


def test_a_step_says_why_it_came_back(ledger, job, claim):
    ledger.ingest([job()])
    begin(ledger, claim(), worker="w7")
    run_out(ledger)
    assert ledger.reap(3) == Reaped(0, 1, 0)
    (step,) = ledger.read(select(STEPS))
    assert step.reason == "the lease ran out while w7 ran it: the worker died or hung"
    assert (step.state, step.claim_id, step.attempts, step.group_key) == ("ready", None, 1, "g")
    assert ledger.overview().claims == 0


def test_delays_end_at_every_stage(ledger, job, claim):
    ledger.ingest([job(job_id=name) for name in "abc"])
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(state="waiting", ready_at=1))
        tx.execute(update(STEPS).where(STEPS.c.job_id == "b").values(stage="judge"))
        tx.execute(update(STEPS).where(STEPS.c.job_id == "c").values(ready_at=ledger.now() + 60_000))
    with writing(ledger.engine) as tx:
        assert promote(tx) == 2
        assert promote(tx) == 0
    assert dict(ledger.read(select(STEPS.c.job_id, STEPS.c.state))) == {"a": "ready", "b": "ready", "c": "waiting"}


def test_a_delay_that_ended_makes_no_other_step_of_its_job_ready(ledger, job):
    ledger.ingest([job()])
    with writing(ledger.engine) as tx:
        (step,) = tx.execute(select(STEPS)).mappings()
        tx.execute(STEPS.insert(), [dict(step) | {"stage": "moderate", "state": "waiting", "ready_at": 1}])
        tx.execute(update(STEPS).where(STEPS.c.stage == "generate").values(state="done"))
    ledger.reap(3)
    assert dict(ledger.read(select(STEPS.c.stage, STEPS.c.state))) == {"generate": "done", "moderate": "ready"}


def test_each_look_does_a_bounded_number(ledger, job, claim, monkeypatch):
    monkeypatch.setattr("headrace_workers.core.ledger.recovery.MANY", 2)
    monkeypatch.setattr("headrace_workers.core.ledger.recovery._AT_ONCE", 2)
    ledger.ingest([job() for _ in range(3)])
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(state="waiting", ready_at=1))
    for expected in (2, 1, 0):
        with writing(ledger.engine) as tx:
            assert promote(tx) == expected
    for _ in range(3):
        claim(limit=1)
    run_out(ledger)
    assert [ledger.reap(3).unstarted for _ in range(3)] == [2, 1, 0]
    monkeypatch.setattr("headrace_workers.core.ledger.recovery.EXPIRED_AT_ONCE", 2)
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(deadline=1))
    for expected in (2, 1, 0):
        with writing(ledger.engine) as tx:
            assert expire(tx) == expected


def test_a_deadline_ends_what_waits_and_not_what_runs(ledger, job, claim):
    jobs = [job(group=name, rank=n) for n, name in enumerate("abcd")]
    ledger.ingest(jobs)
    begin(ledger, claim(limit=1))
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.group_key != "d").values(deadline=1))
        tx.execute(update(STEPS).where(STEPS.c.group_key == "b").values(state="waiting", ready_at=NEVER))
    with writing(ledger.engine) as tx:
        assert expire(tx) == 2
        assert expire(tx) == 0
    states = {"a": "leased", "b": "dead", "c": "dead", "d": "ready"}
    assert dict(ledger.read(select(STEPS.c.group_key, STEPS.c.state))) == states
    letters = ledger.dead(DeadFilter())
    assert {letter.job_id for letter in letters} == {jobs[1].id, jobs[2].id}
    assert {letter.reason for letter in letters} == {"the deadline passed before a worker could take it"}
    assert ledger.active_jobs() == 2


def test_what_another_holds_is_not_waited_for(ledger, job, claim):
    if ledger.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    ledger.ingest([job(group="delayed", rank=1), job(group="lost", rank=0), job(group="died", rank=0)])
    held = [claim(limit=1), claim(limit=1)]
    begin(ledger, held[1])
    run_out(ledger)
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.state == "ready").values(state="waiting", ready_at=1))
    ledger.look(30_000)
    with writing(ledger.engine) as tx:
        tx.execute(update(LOOKS).values(at=1))
        later = tx.execute(select(CLAIMS).with_for_update()).all()
    with writing(ledger.engine) as tx:
        tx.execute(select(STEPS).where(STEPS.c.state == "waiting").with_for_update())
        tx.execute(select(CLAIMS).with_for_update())
        assert ledger.look(30_000) == 0
        assert ledger.reap(3) == Reaped()
        assert dict(ledger.read(select(STEPS.c.group_key, STEPS.c.state)))["delayed"] == "waiting"
    assert ledger.read(select(CLAIMS)) == later
    assert ledger.reap(3) == Reaped(1, 1, 0, promoted=1)
    assert {row.state for row in ledger.read(select(STEPS.c.state))} == {"ready"}


NOTHING, A_LEASE, A_STEP = Due(False, False), Due(True, False), Due(False, True)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (update(STEPS).values(ready_at=1), NOTHING),
        (update(STEPS).values(state="waiting"), A_STEP),
        (update(STEPS).values(state="waiting", ready_at=NEVER), NOTHING),
        (update(STEPS).values(deadline=1), A_STEP),
        (update(STEPS).values(state="leased", deadline=1, ready_at=1), NOTHING),
        (update(CLAIMS).values(lease_until=1), A_LEASE),
    ],
    ids=["ready", "delay", "delayed", "deadline", "leased", "lease"],
)
def test_what_is_due_is_seen(ledger, job, claim, change, found):
    ledger.ingest([job(group="a"), job(group="b", deadline=NEVER - 1)])
    claim()
    assert ledger.due() == NOTHING
    with writing(ledger.engine) as tx:
        tx.execute(change)
    assert ledger.due() == found


def test_where_nothing_is_due_nothing_is_written(ledger, job, claim):
    ledger.ingest([job(group="a"), job(group="b")])
    claim()
    reap = Reap(ledger=ledger, clock=SystemClock(), lease_ms=30_000, max_crashes=3, retention=3600.0)
    reap.once()
    seen = []
    for engine in (ledger.engine, ledger._volatile):
        event.listen(engine, "before_cursor_execute", lambda *said: seen.append(said[2]))
    reap.once()
    (asked,) = [statement for statement in seen if statement != "BEGIN"]
    assert asked.startswith("SELECT")
    assert "FOR UPDATE" not in asked
