"""Claims whose worker died: groups are split until the job that kills stands alone."""

from dataclasses import replace

from sqlalchemy import select, update
from tests.workers.core.ledger.dying import be_due, begin, run_out
from tests.workers.core.ledger.test_complete import retries
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.ledger.recovery import Reaped
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, STEPS


def test_only_the_poison_dies_and_its_31_neighbours_do_not(ledger, job, claim):
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
        ledger.complete(begun.claim_id, [retries(r.job_id, 10**9, "answered") for r in begun.steps],
                        ran_ms=1, quantum_ms=1)  # fmt: skip
    assert answered == {item.id for item in jobs} - {culprit}
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.category) == (culprit, "poison")


def test_whoever_dies_beside_the_poison_is_not_poison(ledger, job, claim):
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
    answer = [retries(innocent.id, 10**9, "answered")]
    assert ledger.complete(begun[innocent.id].claim_id, answer, ran_ms=1, quantum_ms=1)
    run_out(ledger)
    ledger.reap(3)
    begin(ledger, claim(limit=1))
    run_out(ledger)
    assert ledger.reap(3).poison == 1
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.category) == (culprit.id, "poison")


def test_the_third_death_alone_is_poison(ledger, job, claim):
    ledger.ingest([job()])
    died = []
    while taken := claim():
        begin(ledger, taken)
        run_out(ledger)
        reaped = ledger.reap(3)
        died.append((reaped.crashed, reaped.poison))
    assert died == [(1, 0), (1, 0), (0, 1)]


def test_a_group_is_split_in_the_order_of_its_urgency(ledger, job, claim):
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


def test_steps_that_died_in_company_come_back_at_different_times(ledger, job, claim):
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
