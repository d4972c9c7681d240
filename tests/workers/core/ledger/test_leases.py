import pytest
from sqlalchemy import select, update

from headrace_workers.core.ledger.positions import LogPartition
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, DUTIES, INCIDENTS, LOOKS, READERS, STEPS

LEASE = 30_000


def begin(ledger, taken, worker="w"):
    return ledger.start(taken.id, worker=worker, lease_ms=LEASE)


def pass_by(ledger, ms, *, looked=False):
    """So much time goes by for leases and signs of life, and, unless a bridge `looked`, for the last look."""
    with writing(ledger.engine) as tx:
        tx.execute(update(CLAIMS).values(renewed_at=CLAIMS.c.renewed_at - ms, lease_until=CLAIMS.c.lease_until - ms))
        if not looked:
            tx.execute(update(LOOKS).values(at=LOOKS.c.at - ms))


def left(ledger):
    """Seconds that the only lease still holds."""
    ((until,),) = ledger.read(select(CLAIMS.c.lease_until))
    return (until - ledger.now()) / 1000


@pytest.fixture
def held(ledger, job, claim):
    """A claim that a worker has begun, ten seconds ago; a bridge has looked."""
    ledger.ingest([job()])
    begun = begin(ledger, claim())
    assert ledger.look(LEASE) == 0
    pass_by(ledger, 10_000, looked=True)
    return begun


def test_a_ledger_that_was_away_takes_no_work_from_the_living(ledger, held):
    """Ten minutes in which nobody could look, or a clock that jumped: the lease has what it had before."""
    pass_by(ledger, 600_000)
    assert ledger.look(LEASE) >= 600_000
    assert ledger.reap(3).crashed == 0
    assert 0 < left(ledger) <= 20.5
    assert ledger.renew([held.claim_id], LEASE)


def test_real_silence_ends_a_lease_also_after_that(ledger, held):
    pass_by(ledger, 600_000)
    ledger.look(LEASE)
    for _ in range(21):
        pass_by(ledger, 1_000)
        assert ledger.look(LEASE) == 0
    assert ledger.reap(3).crashed == 1


def test_a_bridge_that_comes_and_goes_keeps_no_dead_workers_lease_alive(ledger, held):
    for _ in range(5):
        pass_by(ledger, 20_000)
        ledger.look(LEASE)
    assert ledger.reap(3).crashed == 1


@pytest.mark.parametrize("gap", [40_000, 600_000])
def test_no_lease_ends_later_than_one_that_begins_now(ledger, held, gap):
    """A worker that has renewed since the ledger is back gains nothing, however long that was away."""
    pass_by(ledger, gap)
    ledger.renew([held.claim_id], LEASE)
    assert ledger.look(LEASE) in (0, pytest.approx(gap, abs=10_000))
    assert left(ledger) <= 30


def test_a_lease_that_is_longer_is_not_made_shorter(ledger, held):
    """Bridges may be set otherwise than who began it."""
    ledger.renew([held.claim_id], 20 * LEASE)
    pass_by(ledger, 40_000)
    ledger.look(LEASE)
    assert left(ledger) > 10 * LEASE / 1000


def test_what_nobody_began_is_put_off_too(ledger, job, claim):
    """The workers could not ask for it."""
    ledger.ingest([job()])
    claim(lease_ms=LEASE)
    ledger.look(LEASE)
    pass_by(ledger, 600_000)
    ledger.look(LEASE)
    assert ledger.reap(3).unstarted == 0


def test_a_lease_is_by_the_databases_clock(ledger, job, claim, monkeypatch):
    import time

    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 365 * 86_400)
    ledger.ingest([job()])
    taken = claim(lease_ms=LEASE)
    assert 15 < left(ledger) <= 30
    begin(ledger, taken)
    assert 15 < left(ledger) <= 30
    pass_by(ledger, 20_000, looked=True)
    ledger.renew([taken.id], LEASE)
    assert 15 < left(ledger) <= 30
    assert ledger.hold("relay", "b", LEASE)
    ((until,),) = ledger.read(select(DUTIES.c.lease_until))
    assert 15_000 < until - ledger.now() <= 30_000


@pytest.fixture
def two(ledger, job, claim):
    """Two claims of one worker, of one job each."""
    ledger.ingest([job(), job()])
    return [begin(ledger, claim(limit=1)) for _ in range(2)]


def only(ledger, claim_id, ms):
    with writing(ledger.engine) as tx:
        tx.execute(
            update(CLAIMS)
            .where(CLAIMS.c.id == claim_id)
            .values(renewed_at=CLAIMS.c.renewed_at - ms, lease_until=CLAIMS.c.lease_until - ms)
        )


def crashes(ledger):
    """What is counted against each step."""
    return sorted(row.crashes for row in ledger.read(select(STEPS.c.crashes)))


def test_a_worker_that_goes_on_renewing_has_not_died(ledger, two, claim):
    """It had let go of one of its claims and could not say so: that one comes back as it was, the other stays."""
    only(ledger, two[0].claim_id, LEASE + 1_000)
    reaped = ledger.reap(3)
    assert (reaped.unstarted, reaped.crashed, crashes(ledger)) == (1, 0, [0, 0])
    assert ledger.renew([two[0].claim_id, two[1].claim_id], LEASE) == {two[1].claim_id}
    assert claim().size == 1


def test_a_worker_that_died_loses_all(ledger, two):
    """What it had begun a little later was not renewed since, either: it need not run out by itself."""
    pass_by(ledger, LEASE + 1_000)
    only(ledger, two[1].claim_id, -10_000)  # begun a third of a lease later: still in time
    ledger.look(10 * LEASE)
    assert ledger.reap(3).crashed == 2
    assert crashes(ledger) == [1, 1]


def test_the_death_of_one_worker_costs_no_other_its_claims(ledger, two, job, claim):
    """All that the dead one had begun is taken back, and nothing else, begun or not."""
    ledger.ingest([job(), job()])
    living = begin(ledger, claim(limit=1), "v")
    unbegun = claim(limit=1)
    for item, ms in zip(two, (LEASE + 1_000, LEASE - 5_000), strict=True):
        only(ledger, item.claim_id, ms)
    assert ledger.reap(3).crashed == 2
    assert {row.id for row in ledger.read(select(CLAIMS.c.id))} == {living.claim_id, unbegun.id}


def test_only_those_that_a_worker_comes_back_from_are_acquitted(ledger, two):
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(crashes=4))
    ledger.acquit("generate", [two[0].steps[0].job_id])
    assert crashes(ledger) == [0, 4]


def test_a_worker_that_comes_back_alive_is_acquitted(ledger, held, claim):
    pass_by(ledger, LEASE, looked=True)
    assert ledger.reap(3).crashed == 1
    assert crashes(ledger) == [4]
    jobs = [row.job_id for row in held.steps]
    ledger.acquit("judge", jobs)
    assert crashes(ledger) == [4]
    ledger.acquit("generate", jobs)
    assert crashes(ledger) == [0]


def test_given_back_for_later_it_waits(ledger, held, claim):
    assert ledger.release([held.claim_id], 60_000, "not yet") == 1
    assert claim() is None
    (row,) = ledger.read(select(STEPS.c.state, STEPS.c.attempts, STEPS.c.reason, STEPS.c.ready_at))
    assert tuple(row)[:3] == ("waiting", 0, "not yet")
    assert row.ready_at > ledger.now() + 30_000


def test_only_what_a_bridge_sent_and_nobody_began_is_given_back(ledger, job, claim):
    ledger.ingest([job(rank=n) for n in range(6)])
    claim(limit=2, bridge="b")
    begin(ledger, claim(limit=1, bridge="b"))
    claim(limit=1, bridge="other")
    assert ledger.release_unstarted("b") == 2
    rows = ledger.read(select(STEPS.c.state, STEPS.c.attempts, STEPS.c.claim_id.is_(None)).order_by(STEPS.c.rank))
    assert [tuple(row) for row in rows] == [
        ("ready", 0, True), ("ready", 0, True), ("leased", 1, False), ("leased", 1, False), ("ready", 0, True),
        ("ready", 0, True),
    ]  # fmt: skip
    assert ledger.release_unstarted("b") == 0


def test_a_lease_ends_as_late_after_its_renewal_as_was_asked(ledger, held):
    assert ledger.renew([held.claim_id, 10**6], 50_000) == {held.claim_id}
    ((renewed, until),) = ledger.read(select(CLAIMS.c.renewed_at, CLAIMS.c.lease_until))
    assert abs(until - renewed - 50_000) <= 1_000
    assert abs(renewed - ledger.now()) < 5_000
    assert ledger.renew([], 50_000) == frozenset()


def set_back(ledger, ms):
    """The database's clock goes back: what is written lies in its future."""
    with writing(ledger.engine) as tx:
        tx.execute(update(CLAIMS).values(renewed_at=CLAIMS.c.renewed_at + ms, lease_until=CLAIMS.c.lease_until + ms))
        for table in (DUTIES, READERS):
            tx.execute(update(table).values(lease_until=table.c.lease_until + ms))
        tx.execute(update(INCIDENTS).values(since=INCIDENTS.c.since + ms, seen_at=INCIDENTS.c.seen_at + ms))
        tx.execute(update(LOOKS).values(at=LOOKS.c.at + ms))


def test_what_the_dead_hold_ends_as_it_would_have_though_the_clock_went_back(ledger, held):
    """Their claims, duties and partitions: nobody does their work for an hour, else."""
    place = LogPartition("t", 0, "log")
    assert ledger.hold("relay", "dead", LEASE)
    assert ledger.share("dead", [place], LEASE) == {place}
    ledger.tell("dead", "relay", {"": "away"})
    set_back(ledger, 3_600_000)
    assert not ledger.hold("relay", "b", LEASE)
    assert ledger.look(LEASE) == pytest.approx(-3_600_000, abs=10_000)
    assert ledger.look(LEASE) == 0
    ((trouble,), now) = ledger.open_incidents(), ledger.now()
    assert now - 10_000 < trouble.since <= now
    assert 0 < left(ledger) <= 20.5
    assert not ledger.hold("relay", "b", LEASE)
    assert ledger.share("b", [place], LEASE) == frozenset()
    pass_by(ledger, 31_000, looked=True)
    with writing(ledger.engine) as tx:
        for table in (DUTIES, READERS):
            # What was an hour too long is not; a busy machine is some seconds late.
            tx.execute(update(table).where(table.c.lease_until < ledger.now() + 2 * LEASE).values(lease_until=1))
    assert ledger.hold("relay", "b", LEASE)
    assert ledger.share("b", [place], LEASE) == {place}
    assert ledger.reap(3).crashed == 1


def test_who_lives_keeps_what_is_its_own_though_the_clock_went_back(ledger, held):
    """What was renewed since is as long as before, also where it is longer than a bridge's own lease."""
    set_back(ledger, 3_600_000)
    assert ledger.renew([held.claim_id], 20 * LEASE)
    ledger.look(LEASE)
    assert left(ledger) > 19 * LEASE / 1000


def test_what_is_renewed_at_this_moment_is_not_of_the_old_time(ledger, held):
    set_back(ledger, 3_600_000)
    with writing(ledger.engine) as tx:
        soon = ledger.now() + 1_000
        tx.execute(update(CLAIMS).values(renewed_at=soon, lease_until=soon + LEASE))
    ledger.look(LEASE)
    assert left(ledger) > LEASE / 1000 - 10
