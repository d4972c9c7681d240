"""Two people at the same webhooks at a time, or two gateways. On PostgreSQL; SQLite has one writer at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select
from tests.workers.core.ledger.rows import delivery
from tests.workers.core.ledger.test_endpoints import add
from tests.workers.core.ledger.test_locks import Meanwhile, ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import STEPS
from headrace_workers.features.webhooks.store import deliveries, endpoints
from headrace_workers.features.webhooks.store.deliveries import Range
from headrace_workers.features.webhooks.store.webhooks import Webhooks


@pytest.mark.parametrize("ends", ["is written", "comes to nothing"])
def test_who_sends_a_day_again_sends_it_all_beside_who_sends_an_hour(ledger, monkeypatch, ends):
    monkeypatch.setattr(deliveries, "AT_ONCE", 2)
    for name, at in (("a", 100), ("b", 100), ("c", 200)):
        delivery(ledger, name, "dead", created_at=at)
    with writing(ledger.engine) as tx:
        assert deliveries.replay(tx, Range(until=200), delivered=False) == 2
        day = Meanwhile(ledger, lambda: ledger.of(Webhooks).replay(Range(), delivered=False))
        assert not day.ended
        if ends == "comes to nothing":
            tx.rollback()
    assert day.result() == (1 if ends == "is written" else 2)
    ledger.of(Webhooks).replay(Range(), delivered=False)
    ready = ledger.read(select(STEPS.c.job_id).where(STEPS.c.state == "ready").order_by(STEPS.c.job_id))
    assert ready == [("a",), ("b",), ("c",)]


def test_of_two_who_register_the_last_endpoint_one_does(ledger, monkeypatch):
    counted, go, count = threading.Event(), threading.Event(), endpoints.count

    def paused(tx, tenant):
        number = count(tx, tenant)
        if not counted.is_set():
            counted.set()
            assert go.wait(60)
        return number

    monkeypatch.setattr(endpoints, "count", paused)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(add, ledger, "we_1", most=1)
        assert counted.wait(60)
        second = Meanwhile(ledger, lambda: add(ledger, "we_2", most=1))
        try:
            assert not second.ended
            assert add(ledger, "we_3", tenant="b", most=1) is not None
        finally:
            go.set()
        assert (first.result().id, second.result()) == ("we_1", None)


def test_of_two_who_change_a_secret_both_have_one_that_signs(ledger):
    add(ledger, "we_1")
    with writing(ledger.engine) as tx:
        endpoints.rotate(tx, "we_1", "first's", "hint", 60_000)
        second = Meanwhile(ledger, lambda: ledger.of(Webhooks).rotate("we_1", "second's", "hint", 60_000))
        assert not second.ended
    made = second.result()
    assert (made.secret, made.old_secret) == ("second's", "first's")
