"""No two transactions wait for each other: all lock claims, then jobs, then steps. On PostgreSQL, two connections.

SQLite has one writer at a time.
"""

import threading
import time
from uuid import uuid4

import pytest
from sqlalchemy import delete, select, text, update
from tests.services.eventually import eventually
from tests.services.tables import postgres_tables
from tests.workers.ledger.test_complete import burial, goes_on, record

from headrace_workers.ledger.cancel import Cancellation, cancel
from headrace_workers.ledger.complete import Advanced, complete
from headrace_workers.ledger.database import writing
from headrace_workers.ledger.hand_out import Room
from headrace_workers.ledger.leases import hold, renew
from headrace_workers.ledger.replay import DeadFilter
from headrace_workers.ledger.tables import CLAIMS, JOBS, LOOKS, STEPS

LEASE = 60_000


@pytest.fixture
def ledger_url(postgres):
    """A database with tables."""
    return postgres_tables(postgres, f"locks_{uuid4().hex[:8]}")


class Meanwhile:
    """A call in a thread of its own. It is `settled` when it has ended, or waits for a lock."""

    def __init__(self, ledger, call):
        self._ledger, self._call = ledger, call
        self._outcome, self._error = None, None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        eventually(self._settled)

    @property
    def ended(self):
        """Whether it waits for nothing."""
        return not self._thread.is_alive()

    def result(self):
        """What it returned, or raises what it raised."""
        self._thread.join(120)
        assert self.ended
        if self._error is not None:
            raise self._error
        return self._outcome

    def _run(self):
        try:
            self._outcome = self._call()
        except Exception as error:
            self._error = error

    def _settled(self):
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return self.ended or self._ledger.read(text(waits))


def lock_jobs(tx):
    """What a cancellation of all does first."""
    hold(tx, list(tx.execute(select(JOBS.c.id)).scalars()))
    tx.execute(select(JOBS.c.id).order_by(JOBS.c.id).with_for_update())


def touch_steps(tx):
    """What it does then."""
    tx.execute(update(STEPS).values(reason="touched"))


def collide(ledger, call):
    """The call comes between a cancellation's two locks: both go through."""
    with writing(ledger.engine) as tx:
        lock_jobs(tx)
        meanwhile = Meanwhile(ledger, call)
        touch_steps(tx)
    return meanwhile.result()


@pytest.fixture
def begun(ledger, job, claim):
    """Two claims of two jobs each, in the hands of two workers."""
    ledger.ingest([job(job_id=f"{n:036}") for n in range(4)])
    return [ledger.start(claim(limit=2).id, worker=f"w{n}", lease_ms=LEASE) for n in range(2)]


def test_completing_what_goes_on_and_what_dies(ledger, begun):
    """One step goes on, and its neighbour's job ends."""
    first, second = (row.job_id for row in begun[0].steps)
    settled = [goes_on(first), burial(second)]
    assert collide(ledger, lambda: ledger.complete(begun[0].claim_id, settled, ran_ms=1, quantum_ms=9))


def test_cancelling_much_of_what_is_being_completed_or_taken_back(ledger, begun):
    """Whoever holds a claim touches its steps in any order: the cancellation has touched none before it may."""
    jobs = sorted(row.job_id for row in begun[0].steps)
    wishes = [Cancellation(job_id, "a", "") for job_id in jobs]
    with writing(ledger.engine) as tx:
        tx.execute(delete(CLAIMS).where(CLAIMS.c.id == begun[0].claim_id))
        tx.execute(update(STEPS).where(STEPS.c.job_id == jobs[1]).values(state="ready", claim_id=None))
        meanwhile = Meanwhile(ledger, lambda: ledger.ingest([], [], wishes))
        assert not meanwhile.ended
        tx.execute(update(STEPS).where(STEPS.c.job_id == jobs[0]).values(state="ready", claim_id=None))
    meanwhile.result()
    rows = ledger.read(select(STEPS.c.state).where(STEPS.c.job_id.in_(jobs)))
    assert rows == [("cancelled",)] * 2


def test_a_cancellation_waits_for_no_other_jobs_completion(ledger, begun):
    """Only its own job, and the claim on it, are locked."""
    with writing(ledger.engine) as tx:
        tx.execute(select(CLAIMS).where(CLAIMS.c.id == begun[0].claim_id).with_for_update())
        tx.execute(select(JOBS).where(JOBS.c.id == begun[0].steps[0].job_id).with_for_update())
        meanwhile = Meanwhile(ledger, lambda: ledger.cancel(Cancellation(begun[1].steps[0].job_id, "a", "")))
        assert meanwhile.ended
    assert meanwhile.result() == "cancelled"


def test_taking_back_leaves_what_is_being_cancelled(ledger, begun):
    """It comes later, when it is still there."""
    with writing(ledger.engine) as tx:
        tx.execute(update(CLAIMS).values(renewed_at=0, lease_until=1))
    assert collide(ledger, lambda: ledger.reap(3)).crashed == 0
    assert ledger.reap(3).crashed == 4


def test_what_was_delayed_and_is_late(ledger, job):
    """A step whose delay has ended and whose deadline has passed is made ready and buried in one look."""
    ledger.ingest([job(deadline=ledger.now() + 1)])
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(state="waiting", ready_at=0))
    time.sleep(0.02)
    collide(ledger, lambda: ledger.reap(3))
    assert ledger.overview().dead == 1


def test_a_job_that_is_cancelled_while_its_deadline_passes_has_one_end(ledger, job):
    """Whoever buries it waits for who cancels it, and then finds it ended."""
    ledger.ingest([only := job(deadline=1)])
    with writing(ledger.engine) as tx:
        assert cancel(tx, [Cancellation(only.id, "a", "")]) == ["cancelled"]
        meanwhile = Meanwhile(ledger, lambda: ledger.reap(3))
        assert not meanwhile.ended
    meanwhile.result()
    assert ledger.job(only.id).job.state == "cancelled"
    assert [row.record.headers["ce_type"] for row in ledger.outbox(9)] == ["headrace.job.cancelled.v1"]
    assert ledger.dead(DeadFilter()) == []


def test_giving_back(ledger, begun):
    """Claims that are released touch steps of many jobs."""
    assert collide(ledger, lambda: ledger.release([started.claim_id for started in begun])) == 4


def test_forgetting_what_is_replayed(ledger, job):
    """A job that is being put back to work is not forgotten at the same time."""
    ledger.ingest([job(deadline=ledger.now() + 1)])
    time.sleep(0.02)
    ledger.reap(3)
    collide(ledger, lambda: ledger.prune(-1_000))
    assert ledger.replay(DeadFilter()) == (1, 0)
    assert ledger.active_jobs() == 1


@pytest.mark.parametrize("room", [0, 1])
def test_a_cancel_that_waits_for_a_completion_leaves_nothing_to_do(ledger, begun, room):
    """What the completion made, ready or handed on, is not there yet when the cancellation begins to wait."""
    jobs = [row.job_id for row in begun[0].steps]
    handing = Room({("m", 1): room}, "w", LEASE)
    with writing(ledger.engine) as tx:
        settled = [goes_on(job_id) for job_id in jobs]
        complete(tx, begun[0].claim_id, settled, ran_ms=1, quantum_ms=9, room=handing)
        meanwhile = Meanwhile(ledger, lambda: ledger.cancel(Cancellation(jobs[0], "a", "")))
        assert not meanwhile.ended
    assert meanwhile.result() == "cancelled"
    rows = ledger.read(select(STEPS.c.stage, STEPS.c.state).where(STEPS.c.job_id == jobs[0]))
    assert sorted(rows) == [("generate", "done"), ("moderate", "cancelled")]


def test_a_completion_that_waits_for_a_cancel_writes_nothing_of_it(ledger, begun):
    """The job has ended when its answer comes; its neighbour goes on."""
    gone, kept = (row.job_id for row in begun[0].steps)
    settled = [goes_on(gone), Advanced(kept, end=record(kept, "headrace.result.v1"))]
    with writing(ledger.engine) as tx:
        assert cancel(tx, [Cancellation(gone, "a", "")]) == ["cancelled"]
        meanwhile = Meanwhile(ledger, lambda: ledger.complete(begun[0].claim_id, settled, ran_ms=1, quantum_ms=9))
        assert not meanwhile.ended
    assert meanwhile.result()
    steps = ledger.read(select(STEPS.c.job_id, STEPS.c.stage, STEPS.c.state).where(STEPS.c.job_id.in_([gone, kept])))
    assert sorted(steps) == sorted([(gone, "generate", "cancelled"), (kept, "generate", "done")])
    assert [row.record.key for row in ledger.outbox(9)] == [gone, kept]  # its cancellation, and its neighbour's result


def test_leases_that_are_being_renewed_need_not_be_put_off(ledger, begun):
    """Whoever looks waits for no worker."""
    ledger.look(LEASE)
    with writing(ledger.engine) as tx:
        tx.execute(update(LOOKS).values(at=LOOKS.c.at - 10 * LEASE))
        tx.execute(update(CLAIMS).values(renewed_at=CLAIMS.c.renewed_at - LEASE, lease_until=0))
    with writing(ledger.engine) as tx:
        renew(tx, [begun[0].claim_id], LEASE)
        meanwhile = Meanwhile(ledger, lambda: ledger.look(LEASE))
        assert meanwhile.ended
    assert meanwhile.result() > LEASE
    assert ledger.reap(3).crashed == 0
