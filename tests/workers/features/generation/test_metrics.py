from tests.workers.ledger_jobs import sqlite_ledger

from headrace_workers.core.sql.database import reading
from headrace_workers.features.generation.metrics import breakers
from headrace_workers.features.generation.store.breakers import Breaker, Breakers


def test_a_breaker_has_one_state(tmp_path):
    with sqlite_ledger(tmp_path) as ledger:
        store, now = ledger.of(Breakers), ledger.now()
        store.follow("open", lambda *_: Breaker(failures=5, opened_at=now, open_until=now + 600_000))
        store.follow("half", lambda *_: Breaker(failures=5, opened_at=now - 9, open_until=now - 5))
        store.follow("closed", lambda *_: Breaker())
        with reading(ledger.engine) as tx:
            (metric,) = breakers(tx)
    states = {(sample.labels["model"], sample.labels["state"]): sample.value for sample in metric.samples}
    assert {key for key, value in states.items() if value} == {
        ("open", "open"), ("half", "half_open"), ("closed", "closed")
    }  # fmt: skip
    assert len(states) == 9
