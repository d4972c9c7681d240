"""What time brings about."""

import time

from sqlalchemy import select, update

from headrace_workers.ledger.claim import Claim
from headrace_workers.ledger.complete import Postponed
from headrace_workers.ledger.database import writing
from headrace_workers.ledger.replay import DeadFilter
from headrace_workers.ledger.sizing import LARGEST_BYTES
from headrace_workers.ledger.tables import CLAIMS, STEPS


def run_out(ledger):
    """Let every lease have run out."""
    with writing(ledger.engine) as tx:
        tx.execute(update(CLAIMS).values(renewed_at=0, lease_until=1))


def begin(ledger, taken: Claim, worker="w"):
    """Start a claim."""
    return ledger.start(taken.id, worker=worker, lease_ms=60_000)


def test_a_lease_in_time_is_left_alone(ledger, job, claim):
    """Nothing is taken from a worker that is alive."""
    ledger.ingest([job()])
    begin(ledger, claim())
    assert ledger.reap(3).crashed == 0
    assert claim() is None


def test_a_claim_nobody_began_goes_back_as_it_was(ledger, job, claim):
    """A message that Redis lost costs no attempt."""
    ledger.ingest([job(), job()])
    claim()
    run_out(ledger)
    assert ledger.reap(3).unstarted == 2
    again = begin(ledger, claim())
    assert [row.attempts for row in again.steps] == [1, 1]


def test_only_the_poison_dies_and_its_31_neighbours_do_not(ledger, job, claim):
    """A job that kills its worker is found by halving; the others are answered."""
    jobs = [job() for _ in range(32)]
    culprit = jobs[17].id
    ledger.ingest(jobs)
    answered = set()
    for _ in range(200):
        taken = claim()
        if taken is None:
            break
        begun = begin(ledger, taken)
        if any(row.job_id == culprit for row in begun.steps):
            run_out(ledger)
            ledger.reap(3)
            continue
        answered |= {row.job_id for row in begun.steps}
        ledger.complete(begun.claim_id, [Postponed(r.job_id, 10**9, "answered") for r in begun.steps],
                        ran_ms=1, quantum_ms=1)  # fmt: skip
    assert answered == {item.id for item in jobs} - {culprit}
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.category) == (culprit, "poison")


def be_due(ledger):
    """Let every delay have ended."""
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.state == "waiting").values(ready_at=0))
    ledger.reap(3)


def test_whoever_dies_beside_the_poison_is_not_poison(ledger, job, claim):
    """A worker that runs two claims dies of one of them, more often than poison may; the other is still answered."""
    culprit, innocent = job(), job()
    ledger.ingest([culprit, innocent])
    for number in range(5):
        begun = [begin(ledger, claim(limit=1), worker=f"w{number}") for _ in range(2)]
        run_out(ledger)
        with writing(ledger.engine) as tx:  # the lease of one runs out first
            later = ledger.now() + 10_000
            tx.execute(update(CLAIMS).where(CLAIMS.c.id == begun[1].claim_id).values(lease_until=later))
        assert ledger.reap(3).crashed == 2  # its worker is dead: the other is taken back too
        assert {row.state for row in ledger.read(select(STEPS.c.state))} == {"waiting"}  # each for its own time
        be_due(ledger)
    begun = {one.steps[0].job_id: one for one in (begin(ledger, claim(limit=1)) for _ in range(2))}
    answer = [Postponed(innocent.id, 10**9, "answered")]
    assert ledger.complete(begun[innocent.id].claim_id, answer, ran_ms=1, quantum_ms=1)
    run_out(ledger)
    ledger.reap(3)
    begin(ledger, claim(limit=1))
    run_out(ledger)
    assert ledger.reap(3).poison == 1
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.category) == (culprit.id, "poison")


def test_the_third_death_alone_is_poison(ledger, job, claim):
    """Not the second, and not the fourth: each costs a model its load."""
    ledger.ingest([job()])
    died = []
    while taken := claim():
        begin(ledger, taken)
        run_out(ledger)
        reaped = ledger.reap(3)
        died.append((reaped.crashed, reaped.poison))
    assert died == [(1, 0), (1, 0), (0, 1)]


def test_an_expired_job_ends_in_dead(ledger, job):
    """A deadline that passes in the queue is an end, with its reason."""
    ledger.ingest([job(deadline=ledger.now() + 20), job()])
    time.sleep(0.05)
    ledger.reap(3)
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.category, letter.stage) == ("expired", "generate")
    assert ledger.active_jobs() == 1


def test_what_expires_is_bounded_in_bytes(ledger, job):
    """A thousand large jobs that are late are not read at once; each look ends some."""
    ledger.ingest([job(deadline=ledger.now() + 1) for _ in range(5)])
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(read_bytes=LARGEST_BYTES // 2))
    time.sleep(0.02)
    left = []
    for _ in range(3):
        ledger.reap(3)
        left.append(ledger.active_jobs())
    assert left == [3, 1, 0]


def test_a_delayed_step_becomes_ready(ledger, job, claim):
    """A Retry is waited for, and then claimed again as the next attempt."""
    ledger.ingest([job()])
    begun = begin(ledger, claim())
    ledger.complete(begun.claim_id, [Postponed(begun.steps[0].job_id, 30, "later")], ran_ms=1, quantum_ms=1)
    assert claim() is None
    time.sleep(0.05)
    ledger.reap(3)
    assert begin(ledger, claim()).steps[0].attempts == 2


def test_a_delay_is_waited_for(ledger, job, claim):
    """However often a bridge looks, nothing is handed out before its time."""
    ledger.ingest([job()])
    begun = begin(ledger, claim())
    ledger.complete(begun.claim_id, [Postponed(begun.steps[0].job_id, 60_000, "later")], ran_ms=1, quantum_ms=1)
    ((due,),) = ledger.read(select(STEPS.c.ready_at))
    assert 50_000 < due - ledger.now() <= 60_000
    ledger.reap(3)
    assert claim() is None


def test_replay_goes_on_where_the_job_died(ledger, job, claim):
    """A dead job that is replayed is active again, with fresh attempts; its letter is marked."""
    ledger.ingest([job(deadline=ledger.now() + 1)])
    time.sleep(0.02)
    ledger.reap(3)
    assert ledger.replay(DeadFilter()) == (1, 0)
    assert ledger.dead(DeadFilter()) == []
    assert ledger.active_jobs() == 1
    assert claim().size == 1
