"""The fair order of tenants and of their batches. Counted in groups that are claimed, never in seconds."""

from dataclasses import replace

import pytest
from sqlalchemy import insert, select
from tests.workers.core.ledger.test_complete import goes_on

from headrace_workers.core.ledger.claims import QueueRoom, Wanted
from headrace_workers.core.ledger.fair_queueing import CLOCK, Class, advance
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import NEVER, STEPS, TURNS

LEASE = 60_000
GROUP = 32


def claimed(ledger, bridge="b", *, lane=1, queue="q", groups=1):
    wanted = [Wanted(queue, lane, groups, GROUP)]
    claims = ledger.claim(wanted, lease_ms=LEASE, sender=bridge).claims
    started = [ledger.start(claim.id, worker="w", lease_ms=LEASE) for claim in claims]
    return [row.job_id for item in started for row in item.steps]


def groups_until(ledger, wanted, most, **where):
    """How many groups go out until all of these jobs have; one more than `most` where they do not within that."""
    left = set(wanted)
    for number in range(1, most + 1):
        left -= set(claimed(ledger, f"b{number % 2}", **where))
        if not left:
            return number
    return most + 1


def of_batch(job, number, count, **where):
    return [replace(job(**where), batch=number, line=line) for line in range(1, count + 1)]


@pytest.mark.integration
@pytest.mark.parametrize("lane", [0, 1])
def test_ten_jobs_beside_five_thousand_of_another_tenant_end_within_some_groups(ledger, job, lane):
    """Whatever else the crowd sends meanwhile: to the other lane, to another queue, more urgent, or due soon."""
    for _ in range(5):
        ledger.ingest([job(tenant="crowd", lane=lane) for _ in range(1_000)])
    soon = ledger.now() + 3_600_000
    for other in ({"lane": 1 - lane}, {"queue": "other"}, {"rank": 0}, {"deadline": soon}, {"group": "rare"}):
        ledger.ingest([job(tenant="crowd", **({"lane": lane} | other)) for _ in range(3)])
        for place in ({"lane": 1 - lane}, {"lane": lane, "queue": "other"}, {"lane": lane}):
            claimed(ledger, **place)
    ledger.ingest(ten := [job(tenant="few", lane=lane) for _ in range(10)])
    assert groups_until(ledger, [item.id for item in ten], 3, lane=lane) <= 2


def test_a_job_in_a_rare_group_far_behind_moves_the_clock_no_further_than_the_first(ledger, job):
    ledger.ingest([job(tenant="crowd", group="rare")])
    ledger.ingest([job(tenant="crowd") for _ in range(500)])
    ledger.ingest([job(tenant="crowd", group="rare")])
    assert len(claimed(ledger)) == 2
    ledger.ingest(ten := [job(tenant="few") for _ in range(10)])
    assert groups_until(ledger, [item.id for item in ten], 3) <= 2


def test_a_small_batch_beside_a_large_one_of_its_tenant_ends_within_some_groups(ledger, job):
    ledger.ingest(of_batch(job, 1, 800))
    claimed(ledger)
    small = [*of_batch(job, 2, 3), *of_batch(job, 3, 5), job(), job()]
    for item in small:
        ledger.ingest([item])
    assert groups_until(ledger, [item.id for item in small], 3) <= 2


def test_a_tenant_gains_nothing_by_many_batches(ledger, job):
    for number in range(1, 101):
        ledger.ingest(of_batch(job, number, 1, tenant="split"))
    ledger.ingest([job(tenant="whole") for _ in range(100)])
    served = [row for _ in range(2) for row in claimed(ledger)]
    tenants = [ledger.job(job_id).job.tenant for job_id in served]
    assert tenants.count("split") == pytest.approx(GROUP, abs=2)


def test_two_large_batches_of_a_tenant_get_one_share_together(ledger, job):
    for _ in range(8):
        for number in (1, 2):
            ledger.ingest(of_batch(job, number, 10, tenant="two"))
        ledger.ingest([job(tenant="one") for _ in range(10)])
    served = [row for _ in range(4) for row in claimed(ledger)]
    tenants = [ledger.job(job_id).job.tenant for job_id in served]
    assert tenants.count("two") == pytest.approx(len(served) / 2, abs=12)


def test_what_follows_waits_in_turn_in_its_own_queue(ledger, job):
    ledger.ingest([job(tenant="crowd") for _ in range(8 * GROUP)])
    while _run(ledger, "crowd"):
        pass
    ledger.ingest(few := [job(tenant="few")])
    assert _run(ledger, "few")
    assert groups_until(ledger, [few[0].id], 2, queue="late") == 1


def _run(ledger, tenant):
    """Complete the next group of a tenant: its jobs go on to a queue where nobody has room."""
    (taken, *_) = ledger.claim([Wanted("q", 1, 1, GROUP)], lease_ms=LEASE, sender="b").claims or (None,)
    if taken is None:
        return False
    begun = ledger.start(taken.id, worker="w", lease_ms=LEASE)
    settled = [goes_on(row.job_id) for row in begun.steps]
    late = {"queue": "late", "tenant": tenant}
    settled = [item._replace(following=(item.following[0]._replace(**late),)) for item in settled]
    return ledger.complete(begun.claim_id, settled, ran_ms=1, quantum_ms=5_000) is not None


def test_a_claim_that_overtakes_nothing_waits_where_others_do(ledger, job):
    """What could be handed out at once stays behind what is ready in its queue and lane."""
    room = QueueRoom({("q", 0): 5}, "b", LEASE)
    assert len(ledger.ingest([job(lane=0)], room=room).assigned) == 1
    ledger.ingest([job(lane=0)])
    assert ledger.ingest([job(lane=0)], room=room).assigned == ()
    assert len(claimed(ledger, lane=0)) == 2
    assert len(ledger.ingest([job(lane=0)], room=room).assigned) == 1


def test_two_bridges_charge_a_tenant_once_for_each_step(ledger, job):
    other = type(ledger).at(ledger.engine.url.render_as_string(hide_password=False))
    try:
        for _ in range(5):
            ledger.ingest([job(tenant="a")])
            other.ingest([job(tenant="a")])
    finally:
        other.close()
    assert sorted(row.turn for row in ledger.read(select(STEPS.c.turn))) == [10 * n for n in range(1, 11)]


def test_the_clock_of_a_class_never_goes_back(ledger):
    here, there = Class("q", 1, 9), Class("q", 0, 9)
    with writing(ledger.engine) as tx:
        advance(tx, {here: 20, there: 5})
        advance(tx, {here: 10})
    clocks = select(TURNS.c.lane, TURNS.c.turn).where(TURNS.c.tenant == CLOCK).order_by(TURNS.c.lane)
    assert [tuple(row) for row in ledger.read(clocks)] == [(0, 5), (1, 20)]


def test_flows_of_which_nothing_waits_are_forgotten(ledger, job):
    ledger.ingest([job(tenant="waits")])
    key = {"lane": 1, "urgency": 2 * 4 + 1, "flow": 0, "turn": 10**9}
    with writing(ledger.engine) as tx:
        tx.execute(insert(TURNS), [key | {"queue": "gone", "tenant": "t"}, key | {"queue": "gone", "tenant": CLOCK}])
    ledger.prune(LEASE)
    found = ledger.read(select(TURNS.c.queue, TURNS.c.tenant))
    assert sorted(map(tuple, found)) == [("gone", CLOCK), ("q", "waits")]


def test_the_end_of_a_batchs_window_makes_no_line_more_urgent(ledger, job):
    expires = job(deadline=ledger.now() + 3_600_000)
    (step,) = expires.steps
    ledger.ingest([job(tenant="b") for _ in range(GROUP)])
    ledger.ingest([replace(expires, steps=(step._replace(due=NEVER, tokens=400),))])
    assert expires.id not in claimed(ledger)
    assert claimed(ledger) == [expires.id]
    rows = ledger.read(select(STEPS.c.deadline, STEPS.c.due).where(STEPS.c.job_id == expires.id))
    assert [tuple(row) for row in rows] == [(step.deadline, NEVER)]
