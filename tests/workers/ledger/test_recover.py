"""What time brings about."""

import time
from dataclasses import replace

import pytest
from sqlalchemy import event, select, update

from headrace_workers.bridge.reap import Reap
from headrace_workers.clock import SystemClock
from headrace_workers.ledger.claim import Claim
from headrace_workers.ledger.complete import Postponed
from headrace_workers.ledger.database import writing
from headrace_workers.ledger.recover import Due, Reaped, expire, promote
from headrace_workers.ledger.replay import DeadFilter
from headrace_workers.ledger.sizing import LARGEST_BYTES
from headrace_workers.ledger.tables import CLAIMS, LOOKS, NEVER, STEPS


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


def done_behind(ledger, job_id):
    """Give a job a step that it has behind it, with the deadline of the other."""
    with writing(ledger.engine) as tx:
        (step,) = tx.execute(select(STEPS).where(STEPS.c.job_id == job_id)).mappings()
        tx.execute(STEPS.insert(), [dict(step) | {"stage": "before", "state": "done"}])


def test_what_a_job_has_behind_it_stays_done(ledger, job, claim):
    """When its worker dies, and when its deadline passes: the step that it is at is taken back, or told of."""
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


def test_a_deadline_that_is_ahead_ends_nothing(ledger, job):
    """However near; nor is what has none ever late."""
    ledger.ingest([job(deadline=ledger.now() + 600_000), job()])
    with writing(ledger.engine) as tx:
        assert expire(tx) == 0
    assert ledger.active_jobs() == 2


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


def test_a_step_says_why_it_came_back(ledger, job, claim):
    """Whose hands it was in, for whoever looks at the job; alone it is ready at once, and nobody's."""
    ledger.ingest([job()])
    begin(ledger, claim(), worker="w7")
    run_out(ledger)
    assert ledger.reap(3) == Reaped(0, 1, 0)
    (step,) = ledger.read(select(STEPS))
    assert step.reason == "the lease ran out while w7 ran it: the worker died or hung"
    assert (step.state, step.claim_id, step.attempts, step.group_key) == ("ready", None, 1, "g")
    assert ledger.overview().claims == 0


def test_a_group_is_split_in_the_order_of_its_urgency(ledger, job, claim):
    """The first half, which is the larger, and the rest; a split says nothing against any of them."""
    jobs = [job(rank=n) for n in (3, 1, 5, 2, 4)]
    ledger.ingest(jobs)
    begin(ledger, claim())
    run_out(ledger)
    assert ledger.reap(3) == Reaped(0, 5, 0)
    rows = ledger.read(select(STEPS.c.rank, STEPS.c.group_key, STEPS.c.crashes, STEPS.c.state).order_by(STEPS.c.rank))
    assert [tuple(row) for row in rows] == [
        (rank, f"g~{0 if rank < 4 else 1}", 0, "ready") for rank in (1, 2, 3, 4, 5)
    ]  # fmt: skip
    assert "the worker died or hung" in ledger.read(select(STEPS.c.reason))[0].reason


@pytest.mark.parametrize(
    ("first", "other"),
    [
        ({"rank": 1, "deadline": 9, "turn": 9}, {"rank": 2, "deadline": 8, "turn": 8}),
        ({"rank": 1, "deadline": 8, "turn": 9}, {"rank": 1, "deadline": 9, "turn": 8}),
        ({"rank": 1, "deadline": 9, "turn": 8}, {"rank": 1, "deadline": 9, "turn": 9}),
    ],
)
def test_of_two_the_more_urgent_is_the_first_half(ledger, job, claim, first, other):
    """By rank, then by deadline, then by turn."""
    ledger.ingest([job(job_id=name) for name in "ab"])
    begin(ledger, claim())
    run_out(ledger)
    with writing(ledger.engine) as tx:
        for name, values in (("a", other), ("b", first)):
            tx.execute(update(STEPS).where(STEPS.c.job_id == name).values(**values))
    assert ledger.reap(3).crashed == 2
    assert dict(ledger.read(select(STEPS.c.job_id, STEPS.c.group_key))) == {"b": "g~0", "a": "g~1"}


def test_steps_that_died_in_company_come_back_at_different_times(ledger, job, claim):
    """Soon at first, later each time, half a minute at most; each of its own group, and less is held against them."""
    jobs = [job(job_id=name) for name in "ac"]  # the delays of any two may be alike for once: of these none are
    ledger.ingest(jobs)
    spreads = []
    for _ in range(8):
        for _ in jobs:
            begin(ledger, claim(limit=1))
        run_out(ledger)
        assert ledger.reap(100).crashed == 2
        now = ledger.now()
        due = ledger.read(select(STEPS.c.ready_at, STEPS.c.state))
        assert {row.state for row in due} == {"waiting"}
        spreads.append([(row.ready_at - now) / 1000 for row in due])
        be_due(ledger)
    assert {row.crashes for row in ledger.read(select(STEPS.c.crashes))} == {8}
    assert all(abs(one - other) > 0.001 for one, other in spreads)
    assert all(max(pair) <= min(30, 2 ** (n + 1)) for n, pair in enumerate(spreads))
    assert max(max(pair) for pair in spreads) > 4


def test_the_poison_is_told_with_all_that_is_known_of_it(ledger, job, claim):
    """So that its sender finds it, and a replay can go on where it stopped."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    only = replace(job(tenant="shop"), correlationid="order-7", traceparent=trace)
    ledger.ingest([only])
    for _ in range(2):
        begin(ledger, claim())
        run_out(ledger)
        ledger.reap(2)
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.tenant, letter.category, letter.stage, letter.attempts) == (
        only.id, "shop", "poison", "generate", 2,
    )  # fmt: skip
    assert letter.reason == "its worker died or hung again and again while it ran this job"
    assert (letter.correlationid, letter.traceparent, letter.topic) == ("order-7", trace, "jobs.generation")
    assert bytes(letter.value) == only.payload
    (told,) = ledger.outbox(9)
    assert told.record.headers["ce_correlationid"] == "order-7"
    assert told.record.headers["ce_traceparent"] == trace
    (step,) = ledger.read(select(STEPS))
    assert (step.state, step.claim_id, step.reason) == ("dead", None, letter.reason)
    assert abs(step.ended_at - ledger.now()) < 60_000
    assert abs(letter.died_at - ledger.now()) < 60_000
    assert ledger.job(only.id).job.state == "dead"
    assert ledger.overview().claims == 0


def test_several_claims_are_judged_each_for_itself(ledger, job, claim):
    """One that nobody began, one of a worker that died alone, and two of another that died: all in one look."""
    ledger.ingest([job(group=name, job_id=name) for name in "abcd"])
    claims = {}
    while taken := claim(limit=1):
        claims[taken.id] = taken
    _unbegun, alone, *company = claims.values()
    begin(ledger, alone, "w1")
    for taken in company:
        begin(ledger, taken, "w2")
    run_out(ledger)
    assert ledger.reap(3) == Reaped(1, 3, 0)
    steps = {step.group_key: step for step in ledger.read(select(STEPS))}
    assert sorted((step.crashes, step.state) for step in steps.values()) == [
        (0, "ready"), (1, "waiting"), (1, "waiting"), (4, "ready"),
    ]  # fmt: skip
    assert ledger.overview().claims == 0
    assert replace(ledger.reap(3), promoted=0) == Reaped()  # a delay may have ended by now


def test_delays_end_at_every_stage(ledger, job, claim):
    """Those that are due, wherever they wait, and no others."""
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
    """What the job has behind it is done."""
    ledger.ingest([job()])
    with writing(ledger.engine) as tx:
        (step,) = tx.execute(select(STEPS)).mappings()
        tx.execute(STEPS.insert(), [dict(step) | {"stage": "moderate", "state": "waiting", "ready_at": 1}])
        tx.execute(update(STEPS).where(STEPS.c.stage == "generate").values(state="done"))
    ledger.reap(3)
    assert dict(ledger.read(select(STEPS.c.stage, STEPS.c.state))) == {"generate": "done", "moderate": "ready"}


def test_each_look_does_a_bounded_number(ledger, job, claim, monkeypatch):
    """Of delays that ended, of leases that ran out, and of deadlines that passed; the next look goes on."""
    monkeypatch.setattr("headrace_workers.ledger.recover._MANY", 2)
    monkeypatch.setattr("headrace_workers.ledger.recover._AT_ONCE", 2)
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
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(deadline=1))
    for expected in (2, 1, 0):
        with writing(ledger.engine) as tx:
            assert expire(tx) == expected


def test_a_deadline_ends_what_waits_and_not_what_runs(ledger, job, claim):
    """Ready or delayed; what is in a worker's hands may still be answered. Each is told with its reason."""
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
    """Delays, leases that ran out and those that are put off: each comes at a later look."""
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
    """Each kind, and only when its time has come."""
    ledger.ingest([job(group="a"), job(group="b", deadline=NEVER - 1)])
    claim()
    assert ledger.due() == NOTHING
    with writing(ledger.engine) as tx:
        tx.execute(change)
    assert ledger.due() == found


def test_where_nothing_is_due_nothing_is_written(ledger, job, claim):
    """One statement, which locks nothing, tells it."""
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
