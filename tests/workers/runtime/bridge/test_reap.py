import pytest

from headrace_workers.core.ledger.recovery import Due, Reaped
from headrace_workers.runtime.bridge.reap import Reap


class Time:
    """A clock of our own, and a ledger that only counts."""

    def __init__(self) -> None:
        self.ours, self.gap, self.calls, self.pruned, self.kept_up = 50.0, 0, [], [], 0
        self.counted = 0
        self.withheld: list[int] = []
        self.found, self.did = Due(leases=True, steps=False), Reaped()

    def pass_by(self, seconds: float) -> None:
        self.ours += seconds

    def monotonic(self) -> float:
        return self.ours

    def look(self, _lease_ms: int) -> int:
        self.calls.append("look")
        return self.gap

    def due(self) -> Due:
        return self.found

    def reap(self, _max_crashes: int) -> Reaped:
        self.calls.append("reap")
        return self.did

    def prune(self, older_than_ms: int) -> bool:
        """Note the call; two calls' worth are there."""
        self.pruned.append(older_than_ms)
        return len(self.pruned) < 2

    def account(self) -> bool:
        """Note the call; two calls' worth are there."""
        self.counted += 1
        return self.counted < 2

    def withhold_late(self, longest_ms: int) -> int:
        """Note the call; two calls' worth are there."""
        self.withheld.append(longest_ms)
        return len(self.withheld) < 2

    def keep_up(self) -> int:
        """Note the call; two calls' worth are there."""
        self.kept_up += 1
        return 500 if self.kept_up < 2 else 0


@pytest.fixture
def fake():
    return Time()


def reaper(fake):
    reap = Reap(ledger=fake, clock=fake, lease_ms=30_000, max_crashes=3, retention=60.0)
    assert reap.once() == 0
    return reap


def test_leases_are_put_off_before_any_is_taken_back(fake, caplog):
    """The order is what saves the living, and people are told why."""
    fake.gap = 60_000
    reaper(fake)
    assert fake.calls == ["look", "reap"]
    assert "leases were extended" in caplog.text


def test_that_the_clock_went_back_is_said(fake, caplog):
    fake.gap = -3_600_000
    reaper(fake)
    assert [(record.levelname, record.fields["ms"]) for record in caplog.records] == [("WARNING", 3_600_000)]
    assert "the database's clock went back" in caplog.text


def test_a_lease_that_ran_out_is_looked_at_whenever_it_is(fake):
    """However short a time ago a look was noted: the clock may have jumped since."""
    reap = reaper(fake)
    fake.calls.clear()
    reap.once()
    assert fake.calls == ["look", "reap"]


def test_when_nothing_is_due_a_look_is_noted_now_and_then(fake):
    fake.found = Due(leases=False, steps=False)
    reap = reaper(fake)
    for _ in range(30):
        fake.pass_by(1.0)
        reap.once()
    assert set(fake.calls) == {"look"}
    assert 7 <= len(fake.calls) <= 11


@pytest.mark.parametrize("kind", ["unstarted", "crashed", "poison", "promoted", "expired"])
def test_whatever_time_brought_about_is_told(fake, kind):
    fake.found, fake.did = Due(leases=False, steps=True), Reaped(**{kind: 2})
    assert Reap(ledger=fake, clock=fake, lease_ms=30_000, max_crashes=3, retention=60.0).once() == 2


def test_it_looks_again_at_once_while_more_deadlines_have_passed(fake):
    """Else twenty thousand jobs with one deadline would take as many seconds as looks."""
    reap, rests = reaper(fake), []
    for more in (True, False):
        fake.did = Reaped(expired=9, more=more)
        reap.once()
        rests.append(reap.rest)
    assert rests[0] == 0 < rests[1]


def test_old_jobs_are_forgotten_until_none_is_left(fake):
    reap = reaper(fake)
    assert fake.pruned == []
    fake.pass_by(61)
    for _ in range(4):
        reap.once()
    assert fake.pruned == [60_000] * 2


def test_features_are_kept_up_until_nothing_is_left(fake):
    reap = Reap(ledger=fake, clock=fake, lease_ms=30_000, max_crashes=3, retention=60.0, upkeep=[fake.keep_up])
    reap.once()
    assert fake.kept_up == 0
    fake.pass_by(61)
    for _ in range(4):
        reap.once()
    assert fake.kept_up == 2


def test_usage_is_counted_until_nothing_is_left(fake):
    reap = Reap(ledger=fake, clock=fake, lease_ms=30_000, max_crashes=3, retention=60.0)
    reap.once()
    assert fake.counted == 0
    fake.pass_by(11)
    for _ in range(4):
        reap.once()
    assert fake.counted == 2


def test_what_is_held_for_too_long_is_withheld_until_nothing_is_left(fake):
    reap = Reap(ledger=fake, clock=fake, lease_ms=30_000, max_crashes=3, retention=60.0, hold=3_600.0)
    reap.once()
    assert fake.withheld == []
    fake.pass_by(11)
    for _ in range(4):
        reap.once()
    assert fake.withheld == [3_600_000] * 2
