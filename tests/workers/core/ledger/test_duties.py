import pytest
from sqlalchemy import select, update

from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import DUTIES

LEASE = 30_000


def run_out(ledger, name):
    with writing(ledger.engine) as tx:
        tx.execute(update(DUTIES).where(DUTIES.c.name == name).values(lease_until=ledger.now() - 1))


def test_one_at_a_time_holds_a_duty(ledger):
    assert ledger.hold("relay", "a", LEASE)
    assert ledger.hold("relay", "a", LEASE)
    assert not ledger.hold("relay", "b", LEASE)
    run_out(ledger, "relay")
    assert ledger.hold("relay", "a", LEASE)
    ((until,),) = ledger.read(select(DUTIES.c.lease_until))
    assert until - ledger.now() == pytest.approx(LEASE, abs=20_000)
    assert not ledger.hold("relay", "b", LEASE)
    run_out(ledger, "relay")
    assert ledger.hold("relay", "b", LEASE)
    assert not ledger.hold("relay", "a", LEASE)
    assert ledger.read(select(DUTIES.c.name, DUTIES.c.holder)) == [("relay", "b")]


def test_duties_are_held_each_for_itself(ledger):
    for name in ("relay", "ingest"):
        assert ledger.hold(name, "a", LEASE)
    assert ledger.hold("prune", "b", LEASE)
    ledger.lay_down("b", "relay")  # which it has not
    assert not ledger.hold("relay", "b", LEASE)
    ledger.lay_down("a", "relay")
    assert ledger.hold("relay", "b", LEASE)
    assert not ledger.hold("ingest", "b", LEASE)
    ledger.lay_down("a")
    assert dict(ledger.read(select(DUTIES.c.name, DUTIES.c.holder))) == {"relay": "b", "prune": "b"}
