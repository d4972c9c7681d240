"""What time brings about, and clocks that jump."""

import time

import pytest
from sqlalchemy import select
from tests.workers.bridge.records import RULES, generation, record
from tests.workers.ledger_jobs import claim_one, sqlite_ledger, take_in

from headrace_workers.bridge.accept import accept
from headrace_workers.bridge.reap import Reap, jump
from headrace_workers.ledger.recover import Reaped
from headrace_workers.ledger.tables import DEAD_LETTERS

HOUR = 3_600_000


class Time:
    """A ledger whose clock can be set, and a clock of our own: leases end as the ledger's clock says."""

    def __init__(self) -> None:
        self.database, self.ours = 1_800_000_000_000, 50.0
        self.leases = {"alive": self.database + 30_000}
        self.pruned: list[int] = []

    def pass_by(self, seconds: float) -> None:
        """Both clocks go on."""
        self.database += int(seconds * 1000)
        self.ours += seconds

    def now(self) -> int:
        """The ledger's clock, ms."""
        return self.database

    def monotonic(self) -> float:
        """Our clock, s."""
        return self.ours

    def extend_leases(self, by_ms: int, _lease_ms: int) -> int:
        """Put off all."""
        self.leases = {name: until + by_ms for name, until in self.leases.items()}
        return len(self.leases)

    def reap(self, _max_crashes: int) -> Reaped:
        """End what ran out."""
        ended = [name for name, until in self.leases.items() if until < self.database]
        for name in ended:
            del self.leases[name]
        return Reaped(crashed=len(ended))

    def prune(self, older_than_ms: int) -> int:
        """Note the call; two calls' worth are there."""
        self.pruned.append(older_than_ms)
        return max(0, 2 - len(self.pruned))


@pytest.fixture
def fake():
    """The two clocks."""
    return Time()


def reaper(fake):
    """A reaper that has looked once."""
    reap = Reap(ledger=fake, clock=fake, lease_ms=30_000, max_crashes=3, retention=60.0)
    assert reap.once() == 0
    return reap


def test_a_clock_that_jumps_forward_takes_no_work_from_the_living(fake):
    """An hour that never passed is not an hour of silence."""
    reap = reaper(fake)
    fake.database += HOUR
    fake.pass_by(1)
    assert reap.once() == 0
    fake.pass_by(10)
    assert (reap.once(), "alive" in fake.leases) == (0, True)


def test_real_silence_ends_a_lease_also_after_a_jump(fake):
    """The guard puts leases off by the jump and no more."""
    reap = reaper(fake)
    fake.database += HOUR
    fake.pass_by(1)
    reap.once()
    for _ in range(30):
        fake.pass_by(1)
        ended = reap.once()
    assert (ended, fake.leases) == (1, {})


def test_a_long_pause_of_the_bridge_is_no_jump(fake):
    """When both clocks went on together, time has passed: what ran out has run out."""
    reap = reaper(fake)
    fake.pass_by(600)
    assert reap.once() == 1


def test_a_clock_that_is_set_back_only_delays(fake):
    """Leases hold longer then, and nothing is put off."""
    reap = reaper(fake)
    before = dict(fake.leases)
    fake.database -= HOUR
    fake.pass_by(60)
    assert (reap.once(), fake.leases) == (0, before)


@pytest.mark.parametrize(
    ("database_ms", "seconds", "ahead"), [(1_000, 1.0, 0), (2_000, 1.0, 0), (2_001, 1.0, 1_001), (-5_000, 1.0, 0)]
)
def test_a_jump_is_what_goes_beyond_the_tolerance(database_ms, seconds, ahead):
    """Small drift is none."""
    assert jump(database_ms, seconds) == ahead


def test_old_jobs_are_forgotten_until_none_is_left(fake):
    """Once a minute, and at every look while there is more than one call forgets."""
    reap = reaper(fake)
    assert fake.pruned == []
    fake.pass_by(61)
    for _ in range(4):
        reap.once()
    assert fake.pruned == [60_000, 60_000]


def test_a_silent_workers_job_is_ready_again_on_a_real_ledger(tmp_path):
    """The lease ends by the database's clock, and the work can be claimed anew."""
    with sqlite_ledger(tmp_path) as ledger:
        take_in(ledger, [generation()])
        claim = claim_one(ledger)
        ledger.start(claim.id, worker="w", lease_ms=1)
        time.sleep(0.02)
        assert Reap(ledger=ledger, clock=Time(), lease_ms=30_000, max_crashes=3, retention=60.0).once() == 1
        assert claim_one(ledger).size == 1


def test_refusals_are_forgotten_too_whether_or_not_a_job_was_read(tmp_path):
    """A job that was refused for its model was never in the ledger: its letter does not stay for ever."""
    with sqlite_ledger(tmp_path) as ledger:
        ledger.ingest([], [accept(record(generation(model="gone")), RULES), accept(record(value=b"", offset=1), RULES)])
        assert len(ledger.read(select(DEAD_LETTERS.c.job_id))) == 2
        ledger.prune(-1_000)
        assert ledger.read(select(DEAD_LETTERS.c.id)) == []
