from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select, update

from headrace_workers.core.ledger.claims import (
    LARGEST_BUDGET,
    LARGEST_BYTES,
    LEAST_BUDGET,
    Claimed,
    Wanted,
    next_budget,
    within_budget,
)
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import BUDGETS, CLAIMS, JOBS, NEVER, STEPS


def test_urgent_work_goes_first(ledger, job, claim):
    soon, late = ledger.now() + 60_000, ledger.now() + 600_000
    plain, due_late, due_soon, urgent = job(), job(deadline=late), job(deadline=soon), job(rank=0)
    ledger.ingest([plain, due_late, due_soon, urgent])
    order = [ledger.start(claim(limit=1).id, worker="w", lease_ms=60_000).steps[0].job_id for _ in range(4)]
    assert order == [urgent.id, due_soon.id, due_late.id, plain.id]


def test_a_group_ends_at_its_token_budget(ledger, job, claim):
    ledger.ingest([job(tokens=3_000) for _ in range(4)] + [job(tokens=100_000)])
    assert [claim().size for _ in range(5)] == [1, 1, 1, 1, 1]


def test_a_group_is_of_prompts_that_begin_with_the_same(ledger, job, claim):
    prefixes = [-(2**63), None, 2**63 - 1] * 20 + [5, 6, 6]
    jobs = [job(prefix=prefix) for prefix in prefixes]
    ledger.ingest(jobs)
    begins = {item.id: prefix for item, prefix in zip(jobs, prefixes, strict=True)}
    groups = []
    while taken := claim(limit=64, window=512):
        steps = ledger.start(taken.id, worker="w", lease_ms=60_000).steps
        groups.append({begins[step.job_id] for step in steps})
        assert ledger.read(select(CLAIMS.c.full).where(CLAIMS.c.id == taken.id)) == [(False,)]
    assert sorted(map(len, groups)) == [1, 1, 1, 2]


def test_work_of_another_lane_or_queue_hides_none(ledger, job, claim):
    """Though it is more urgent, of another kind, or of the same."""
    ledger.ingest([job(lane=1, group="h", rank=0), job(queue="r", group="h", rank=0), job(lane=0), job(lane=1)])
    ledger.ingest([job(queue="r", rank=0)])
    assert claim(lane=0).size == 1
    assert [claim().size, claim().size, claim()] == [1, 1, None]


def test_what_a_claim_says_and_what_a_worker_is_told(ledger, job, claim):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    jobs = [job(tenant="shop", rank=n, tokens=7, deadline=NEVER - 1) for n in (1, 0)]
    jobs = [replace(item, traceparent=trace, correlationid=f"order-{n}") for n, item in enumerate(jobs)]
    ledger.ingest(jobs)
    now = ledger.now()
    taken = claim(lease_ms=50_000, bridge="b7")
    (row,) = ledger.read(select(CLAIMS))
    assert (row.id, row.queue, row.stage, row.group_key, row.lane) == (taken.id, "q", "generate", "g", 1)
    assert (row.size, row.tokens, row.full, row.sender) == (2, 14, False, "b7")
    assert (row.worker, row.started_at) == (None, None)
    assert now - 1 <= row.claimed_at <= row.renewed_at + 1 <= ledger.now() + 1
    assert row.lease_until - row.renewed_at == pytest.approx(50_000, abs=1_000)
    begun = ledger.start(taken.id, worker="w7", lease_ms=90_000)
    (row,) = ledger.read(select(CLAIMS))
    assert row.worker == "w7"
    assert now <= row.started_at <= row.renewed_at + 1 <= ledger.now() + 1
    assert row.lease_until - row.started_at == pytest.approx(90_000, abs=1_000)
    assert (begun.claim_id, begun.queue, begun.stage, begun.group_key) == (taken.id, "q", "generate", "g")
    assert (begun.full, begun.tokens, begun.now) == (False, 14, row.started_at)
    for step, n in zip(begun.steps, (1, 0), strict=True):  # the more urgent first
        assert (step.job_id, step.tenant, step.kind, step.job_payload) == (
            jobs[n].id, "shop", "generation", jobs[n].payload,
        )  # fmt: skip
        assert (step.traceparent, step.correlationid, step.replays, step.attempts) == (trace, f"order-{n}", 0, 1)
        assert now - 60_000 < step.accepted_at == step.ready_at <= now
        assert (step.event_type, step.payload) == ("headrace.job.generation.v1", None)
        assert (step.lane, step.rank, step.deadline, step.tokens) == (1, 1 - n, NEVER - 1, 7)
        assert step.turn in (7, 14)


def test_a_worker_that_asks_again_is_told_the_same(ledger, job, claim):
    """It never got the answer. Nobody else is told anything, and a cancelled job is left out."""
    jobs = [job(), job()]
    ledger.ingest(jobs)
    taken = claim()
    first = ledger.start(taken.id, worker="w", lease_ms=60_000)
    assert ledger.start(taken.id, worker="v", lease_ms=60_000) is None
    assert ledger.start(taken.id, worker="w", lease_ms=60_000).steps == first.steps
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).where(JOBS.c.id == jobs[0].id).values(state="cancelled"))
    assert [row.job_id for row in ledger.start(taken.id, worker="w", lease_ms=60_000).steps] == [jobs[1].id]
    assert ledger.start(taken.id + 1, worker="w", lease_ms=60_000) is None


def test_several_groups_are_claimed_at_once(ledger, job):
    ledger.ingest([job(group=name, rank=n) for n, name in enumerate("abc")])
    ledger.ingest([job(lane=0, group="i"), job(queue="r", group="x"), job(queue="r", group="x")])
    wanted = [Wanted("q", 1, 2, 9), Wanted("q", 0, 5, 9), Wanted("r", 1, 2, 1), Wanted("none", 1, 1, 9)]
    taken = ledger.claim(wanted, lease_ms=60_000, sender="b").claims
    groups = ledger.read(select(CLAIMS.c.queue, CLAIMS.c.lane, CLAIMS.c.group_key, CLAIMS.c.size).order_by(CLAIMS.c.id))
    assert sorted(map(tuple, groups)) == [
        ("q", 0, "i", 1), ("q", 1, "a", 1), ("q", 1, "b", 1), ("r", 1, "x", 1), ("r", 1, "x", 1),
    ]  # fmt: skip
    assert len(taken) == 5
    assert ledger.claim([], lease_ms=60_000, sender="b") == Claimed()


def test_the_budget_is_that_of_the_group(ledger, job, claim):
    with writing(ledger.engine) as tx:
        tx.execute(insert(BUDGETS), [{"group_key": "g", "tokens": 300}, {"group_key": "h", "tokens": 500}])
    ledger.ingest([job(tokens=100, group=name) for name in "gghh" * 3])
    assert [claim().size for _ in range(4)] == [3, 5, 3, 1]
    ledger.ingest([job(tokens=100, group=name) for name in "gggghh"])
    assert [one.size for one in ledger.claim([Wanted("q", 1, 3, 9)], lease_ms=1, sender="b").claims] == [3, 1, 2]


@pytest.mark.parametrize("window", [0, 24])
def test_what_another_is_claiming_is_passed_over(ledger, job, claim, window):
    if ledger.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    jobs = [job(rank=n) for n in range(3)]
    ledger.ingest(jobs)
    with writing(ledger.engine) as tx:
        tx.execute(select(STEPS).where(STEPS.c.job_id == jobs[0].id).with_for_update())
        taken = claim(window=window, limit=9)
        assert taken.size == 2
    assert claim(window=window).size == 1


@given(st.lists(st.integers(1, 1000), min_size=1), st.integers(1, 5000))
def test_a_budget_is_kept_but_for_a_single_step(tokens, budget):
    """What is taken fits, or is one step; and one more would not have fitted."""
    count = within_budget(tokens, budget)
    assert count == 1 or sum(tokens[:count]) <= budget
    assert count == len(tokens) or sum(tokens[: count + 1]) > budget


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.0, 2000), (3.0, 1500), (4.5, 1000), (9.0, 500), (100.0, LEAST_BUDGET)]
)
def test_budgets_follow_the_quantum(seconds, expected):
    assert next_budget(1000, seconds, 5.0) == expected


def test_budgets_stay_in_bounds():
    low = high = 1000
    for _ in range(100):
        low, high = next_budget(low, 1e6, 1.0), next_budget(high, 0.0, 1.0)
    assert (low, high) == (LEAST_BUDGET, LARGEST_BUDGET)


def test_a_group_is_chosen_for_likeness_among_equals(ledger, job, claim):
    ledger.ingest([job(tokens=size) for size in (10, 90, 12, 95, 11, 99)] + [job(tokens=10, rank=5)])
    groups = []
    while taken := claim(limit=3, window=6):
        groups.append([row.tokens for row in ledger.start(taken.id, worker="w", lease_ms=60_000).steps])
    assert [sorted(group) for group in groups] == [[10, 11, 12], [90, 95, 99], [10]]


def test_a_group_is_filled_with_what_is_less_urgent(ledger, job, claim):
    ledger.ingest([job(tokens=10), job(tokens=500), job(tokens=10, rank=5), job(tokens=10, rank=5)])
    assert [claim(limit=3, window=24).size, claim(limit=3, window=24).size] == [3, 1]


def test_a_group_that_is_not_full_waits_for_company(ledger, job, claim):
    ledger.ingest([job(), job()])
    assert claim(limit=3, linger=60_000) is None
    ledger.ingest([job(), job()])
    assert claim(limit=3, linger=60_000).size == 3
    assert claim(limit=3, linger=60_000) is None
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(ready_at=STEPS.c.ready_at - 60_000))
    ledger.ingest([job()])
    assert claim(limit=3, linger=60_000).size == 2
    ledger.ingest([job(tokens=3_000), job(tokens=3_000)])
    assert claim(limit=3, linger=60_000).size == 1  # the budget made it full
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(ready_at=STEPS.c.ready_at + 3_600_000))
    assert claim(limit=3, linger=60_000).size == 1


def test_it_is_told_when_a_group_has_waited_long_enough(ledger, job):
    ledger.ingest([job(), job(queue="r")])
    wanted = [Wanted("q", 1, 1, 3, 0, 90_000), Wanted("r", 1, 1, 3, 0, 60_000)]

    def ask():
        return ledger.claim(wanted, lease_ms=60_000, sender="b")

    assert ask().claims == ()
    assert 30_000 < ask().lingers_ms <= 60_000
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(ready_at=STEPS.c.ready_at - 60_000))
    found = ask()
    assert [taken.queue for taken in found.claims] == ["r"]
    assert 0 < found.lingers_ms <= 30_000
    ledger.ingest([job(), job()])
    assert [len(ask().claims), ask()] == [1, Claimed()]


def weigh(ledger, size, **where):
    """Let every ready step be so many bytes."""
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.state == "ready").filter_by(**where).values(read_bytes=size))


def test_a_group_is_bounded_in_bytes(ledger, job, claim):
    larger = job(tokens=1, rank=9)
    ledger.ingest([job(tokens=1) for _ in range(40)] + [larger])
    weigh(ledger, 1024**2)
    weigh(ledger, LARGEST_BYTES + 1, job_id=larger.id)
    groups = [claim(limit=64, linger=60_000) for _ in range(2)]  # full, though more might come
    assert [group.size for group in groups] == [16, 16]
    assert [claim(limit=64).size for _ in range(2)] == [8, 1]
    assert claim() is None


def test_bytes_teach_no_budget(ledger, job, claim):
    ledger.ingest([job(tokens=1) for _ in range(3)])
    weigh(ledger, LARGEST_BYTES // 2)
    claim()
    assert ledger.read(select(CLAIMS.c.size, CLAIMS.c.full)) == [(2, False)]


def test_a_step_weighs_what_a_worker_reads_of_it(ledger, job):
    only = job()
    ledger.ingest([only])
    assert ledger.read(select(STEPS.c.read_bytes)) == [(len(only.payload),)]


def test_groups_of_one_step_are_claimed_in_order_whatever_their_keys(ledger, job):
    made = [job(group=f"g{number % 2}", tokens=7) for number in range(5)]
    ledger.ingest(made)
    order = [row.job_id for row in ledger.read(select(STEPS.c.job_id).order_by(STEPS.c.turn, STEPS.c.job_id))]
    wanted = [Wanted("q", 1, 3, 1)]
    first = ledger.claim(wanted, lease_ms=60_000, sender="b").claims
    second = ledger.claim(wanted, lease_ms=60_000, sender="b").claims
    begun = [ledger.start(item.id, worker="w", lease_ms=60_000) for item in (*first, *second)]
    assert [len(first), len(second)] == [3, 2]
    assert [[row.job_id for row in item.steps] for item in begun] == [[job_id] for job_id in order]
    assert {(item.tokens, item.steps[0].attempts, item.full) for item in begun} == {(7, 1, False)}
    groups = {new.id: new.steps[0].group_key for new in made}
    assert [item.group_key for item in begun] == [groups[item.steps[0].job_id] for item in begun]


def test_ids_of_claims_use_all_that_both_databases_hold(ledger, job, claim):
    ledger.ingest([job() for _ in range(24)])
    ids = [claim(limit=1).id for _ in range(24)]
    assert len(set(ids)) == 24
    assert 2**53 < max(ids) < 2**63
    assert min(ids) > 2**32
    assert ids != sorted(ids)
