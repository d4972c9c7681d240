"""Handing out work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from headrace_workers.ledger.database import writing
from headrace_workers.ledger.sizing import LARGEST_BUDGET, LARGEST_BYTES, LEAST_BUDGET, next_budget, within_budget
from headrace_workers.ledger.tables import CLAIMS, STEPS


def test_urgent_work_goes_first(ledger, job, claim):
    """Priority decides before deadline, and deadline before turn."""
    soon, late = ledger.now() + 60_000, ledger.now() + 600_000
    plain, due_late, due_soon, urgent = job(), job(deadline=late), job(deadline=soon), job(rank=0)
    ledger.ingest([plain, due_late, due_soon, urgent])
    order = [ledger.start(claim(limit=1).id, worker="w", lease_ms=60_000).steps[0].job_id for _ in range(4)]
    assert order == [urgent.id, due_soon.id, due_late.id, plain.id]


def test_a_group_is_of_one_kind(ledger, job, claim):
    """Steps of another group wait for a claim of their own."""
    ledger.ingest([job(group="g"), job(group="h"), job(group="g")])
    assert [claim().size, claim().size, claim()] == [2, 1, None]


def test_a_group_ends_at_its_token_budget(ledger, job, claim):
    """Long jobs come in smaller groups, and at least one at a time."""
    ledger.ingest([job(tokens=3_000) for _ in range(4)] + [job(tokens=100_000)])
    assert [claim().size for _ in range(5)] == [1, 1, 1, 1, 1]


def test_nothing_is_claimed_twice(ledger, job, claim):
    """Two bridges that claim in turn share the work."""
    ledger.ingest([job() for _ in range(10)])
    first, second = claim(limit=6), claim(limit=6, bridge="other")
    assert (first.size, second.size, claim()) == (6, 4, None)


def test_lanes_are_claimed_apart(ledger, job, claim):
    """A claim of the interactive lane does not bring batch work."""
    ledger.ingest([job(lane=0), job(lane=1)])
    assert claim(lane=0).size == 1
    assert claim(lane=0) is None


def test_a_claim_starts_once(ledger, job, claim):
    """A message that is delivered twice is run once."""
    ledger.ingest([job()])
    taken = claim()
    assert len(ledger.start(taken.id, worker="w", lease_ms=1000).steps) == 1
    assert ledger.start(taken.id, worker="w2", lease_ms=1000) is None


def test_release_undoes_the_attempt(ledger, job, claim):
    """Work that is given back was never tried."""
    ledger.ingest([job()])
    claim()
    assert ledger.release_unstarted("b") == 1
    again = ledger.start(claim().id, worker="w", lease_ms=1000)
    assert again.steps[0].attempts == 1


def test_renew_tells_which_leases_still_are(ledger, job, claim):
    """A claim that was given back cannot be renewed."""
    ledger.ingest([job(), job()])
    one, two = claim(limit=1), claim(limit=1)
    ledger.release([one.id])
    assert ledger.renew([one.id, two.id], 60_000) == {two.id}


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
    """The next group is sized to nine tenths of the quantum, within a factor of two up and four down."""
    assert next_budget(1000, seconds, 5.0) == expected


def test_budgets_stay_in_bounds():
    """However often it is taught, a budget stays usable."""
    low = high = 1000
    for _ in range(100):
        low, high = next_budget(low, 1e6, 1.0), next_budget(high, 0.0, 1.0)
    assert (low, high) == (LEAST_BUDGET, LARGEST_BUDGET)


def test_a_group_is_chosen_for_likeness_among_equals(ledger, job, claim):
    """The most urgent step is always in it; those of its rank that are nearest in size come with it; all come."""
    ledger.ingest([job(tokens=size) for size in (10, 90, 12, 95, 11, 99)] + [job(tokens=10, rank=5)])
    groups = []
    while taken := claim(limit=3, window=6):
        groups.append([row.tokens for row in ledger.start(taken.id, worker="w", lease_ms=60_000).steps])
    assert [sorted(group) for group in groups] == [[10, 11, 12], [90, 95, 99], [10]]


def test_a_group_is_filled_with_what_is_less_urgent(ledger, job, claim):
    """Likeness never leaves room unused."""
    ledger.ingest([job(tokens=10), job(tokens=500), job(tokens=10, rank=5), job(tokens=10, rank=5)])
    assert [claim(limit=3, window=24).size, claim(limit=3, window=24).size] == [3, 1]


def test_a_group_that_is_not_full_waits_for_company(ledger, job, claim):
    """It goes when it is full, or when its first step has waited long enough, or the clock went back."""
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


def weigh(ledger, size, **where):
    """Let every ready step be so many bytes."""
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.state == "ready").filter_by(**where).values(read_bytes=size))


def test_a_group_is_bounded_in_bytes(ledger, job, claim):
    """A worker reads all of it at once: 40 jobs of a mebibyte come in three groups, and one that is larger alone."""
    larger = job(tokens=1, rank=9)
    ledger.ingest([job(tokens=1) for _ in range(40)] + [larger])
    weigh(ledger, 1024**2)
    weigh(ledger, LARGEST_BYTES + 1, job_id=larger.id)
    groups = [claim(limit=64, linger=60_000) for _ in range(2)]  # full, though more might come
    assert [group.size for group in groups] == [16, 16]
    assert [claim(limit=64).size for _ in range(2)] == [8, 1]
    assert claim() is None


def test_bytes_teach_no_budget(ledger, job, claim):
    """A group that its bytes ended says nothing about how many tokens fit the quantum."""
    ledger.ingest([job(tokens=1) for _ in range(3)])
    weigh(ledger, LARGEST_BYTES // 2)
    claim()
    assert ledger.read(select(CLAIMS.c.size, CLAIMS.c.full)) == [(2, False)]


def test_a_step_weighs_what_a_worker_reads_of_it(ledger, job):
    """First the job alone."""
    only = job()
    ledger.ingest([only])
    assert ledger.read(select(STEPS.c.read_bytes)) == [(len(only.payload),)]
