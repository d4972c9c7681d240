"""One bridge at a time looks at the ledger for its metrics, and looks take a hundredth of the time at most."""

import pytest
from sqlalchemy import text
from tests.workers.core.ledger.conftest import tables_of

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.metrics import LedgerMetrics, Seen
from headrace_workers.core.sql.database import writing
from headrace_workers.runtime.bridge.duty import DutyLease, Turn
from headrace_workers.runtime.bridge.metrics import EVERY, LEASE_SECONDS, MetricsDuty


class Seconds:
    """A clock that goes on when its user rests, and by `look` seconds with each look."""

    def __init__(self, ledger, monkeypatch, look=0.0):
        self.now, self.looks = 100.0, []
        store, real = ledger.of(LedgerMetrics), ledger.of(LedgerMetrics).look

        def slow(*seen):
            self.looks.append(self.now)
            self.now += look
            return real(*seen)

        monkeypatch.setattr(store, "look", slow)

    def monotonic(self):
        return self.now

    def rest(self, seconds):
        self.now += seconds


@pytest.fixture
def ledger(request, tmp_path):
    for url in tables_of(request, tmp_path):
        ledger = Ledger.at(url)
        yield ledger
        ledger.close()


both = pytest.mark.parametrize("ledger", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
sqlite = pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)


def duty(ledger, clock, bridge="b"):
    lease = DutyLease("metrics", ledger=ledger, bridge=bridge, clock=clock, seconds=LEASE_SECONDS)
    return MetricsDuty(ledger=ledger, lease=lease, clock=clock)


def turns(duty, clock, count):
    for _ in range(count):
        duty.take_turn(Turn(tell=print, tell_all=print, alive=print, rest=clock.rest))


@both
def test_of_two_bridges_one_looks_and_the_other_takes_over_when_it_stops(ledger, monkeypatch):
    clock = Seconds(ledger, monkeypatch)
    first, second = duty(ledger, clock, "first"), duty(ledger, clock, "second")
    turns(first, clock, 1)
    turns(second, clock, 3)
    assert len(clock.looks) == 1
    first.close()
    ledger.lay_down("first")
    turns(second, clock, 1)
    assert len(clock.looks) == 2


@sqlite
def test_it_looks_every_few_seconds(ledger, monkeypatch):
    clock = Seconds(ledger, monkeypatch)
    turns(duty(ledger, clock), clock, 3)
    assert clock.looks == [100.0, 100.0 + EVERY, 100.0 + 2 * EVERY]


@sqlite
def test_looks_that_take_long_are_rarer(ledger, monkeypatch):
    clock = Seconds(ledger, monkeypatch, look=0.3)
    turns(duty(ledger, clock), clock, 30)
    assert all(later - before >= 30.0 for before, later in zip(clock.looks, clock.looks[1:], strict=False))
    assert len(clock.looks) > 2


@pytest.mark.slow
@pytest.mark.parametrize("ledger", ["postgresql"], indirect=True)
def test_a_locked_table_ends_the_look_and_leaves_the_last_one(ledger):
    """A migration of somebody's own, or VACUUM FULL, holds such a lock."""
    store = ledger.of(LedgerMetrics)
    store.put(Seen([], {"of": "before"}))
    impatient = Ledger.at(f"{ledger.engine.url.render_as_string(hide_password=False)}?timeout=0.5")
    with writing(ledger.engine) as tx:
        tx.execute(text("LOCK TABLE steps IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(Unavailable):
            impatient.of(LedgerMetrics).look({})
        assert impatient.of(LedgerMetrics).last().state == {"of": "before"}
    impatient.close()
