"""Whom a batch names itself: a webhook tells of its end, and of no other's."""

import json

import pytest
from standardwebhooks import Webhook
from tests.workers.batches.running import DEFAULTS, Running, dead, jobs
from tests.workers.ledger_jobs import sqlite_ledger
from tests.workers.webhooks.office import Office
from tests.workers.webhooks.receiver import receiving

from headrace_schemas.callback import BatchCallback
from headrace_workers.batches.submit import Wishes
from headrace_workers.ledger.delivery_views import Range
from headrace_workers.webhooks.keyring import callbacks_of


@pytest.fixture
def running(tmp_path):
    """No batches. That webhooks are the same on each database other tests see."""
    with sqlite_ledger(tmp_path) as ledger:
        yield Running(ledger, tmp_path)


def test_a_receiver_is_told_of_the_end_of_its_batch(running):
    """Once, by a body that the tenant's own secret signs; what the batch's jobs end with is told to nobody."""
    office = Office(running.ledger)
    with receiving() as receiver:
        batch_id = running.submit(jobs(2), callback=BatchCallback(url=receiver.url))
        running.submit(jobs(1), key="another")
        running.run()
        running.bridge().once(running.heard.append)
        office.relay()
        office.deliver()
        (heard,) = receiver.heard
        secret = office.sealer.open(*_own(office))
    told = Webhook(secret).verify(heard.body, heard.headers)
    assert (told["type"], told["data"]["id"], heard.path) == ("batch.completed", batch_id, "/hooks?for=us")
    assert told["data"]["request_counts"] == {"total": 2, "completed": 2, "failed": 0}


def _own(office):
    own = callbacks_of("a", office.webhooks, office.sealer)
    return own.secret, own.id


def test_an_endpoint_that_is_named_and_listens_is_told_once(running):
    """It is one receiver, by whatever way it hears."""
    office = Office(running.ledger)
    with receiving() as receiver:
        listens, _ = office.register(receiver.url, tenant="a", events=("batch.failed",))
        named, secret = office.register(receiver.url, tenant="a", events=())
        running.submit([b"{"], callback=BatchCallback(endpoint=listens))
        running.submit([b"["], callback=BatchCallback(endpoint=named))
        running.run()
        office.deliver()
        heard = [json.loads(each.body)["type"] for each in receiver.heard]
    assert heard == ["batch.failed"] * 3
    assert sorted(office.states(endpoint_id=listens) + office.states(endpoint_id=named)) == ["delivered"] * 3
    assert secret


def test_another_tenants_endpoint_and_an_inner_address_are_told_nothing(running):
    """Each delivery is dead at once, with the reason, as that of a job would be."""
    office = Office(running.ledger)
    with receiving() as receiver:
        foreign, _ = office.register(receiver.url, tenant="b", events=())
        running.submit(jobs(1), callback=BatchCallback(endpoint=foreign))
        running.submit(jobs(1), callback=BatchCallback(url="https://169.254.169.254/latest"))
        running.run()
        office.deliver()
        assert receiver.heard == []
    found = running.ledger.webhooks.deliveries(Range(tenant="a"), 10)
    assert [each.state for each in found] == ["failed", "failed"]
    words = " ".join(sorted(each.error for each in found))
    assert f"the tenant has no endpoint {foreign}" in words
    assert "no address of the internet" in words


def test_only_the_ends_that_it_asks_for_are_told(running):
    """And what is run again tells the same place."""
    office = Office(running.ledger)
    with receiving() as receiver:
        callback = BatchCallback(url=receiver.url, events=("batch.completed",))
        batch_id = running.submit(jobs(1), callback=callback)
        running.run(dead)
        office.deliver()
        assert (running.batch(batch_id).state, receiver.heard) == ("failed", [])
        again, _ = running.again(batch_id)
        running.run()
        office.deliver()
        (heard,) = receiver.heard
    assert json.loads(heard.body)["data"]["id"] == again.id


def test_the_same_file_with_another_callback_is_another_batch(running):
    """Else whoever is named the second time would wait in vain."""
    callbacks = (None, BatchCallback(url="https://a.example/"), BatchCallback(url="https://b.example/"))
    wishes = [Wishes(tenant="a", defaults=DEFAULTS, callback=each) for each in callbacks]
    assert len({each.key("digest") for each in wishes}) == 3
