"""Whom a batch names itself: a webhook tells of its end, and of no other's."""

import json

import pytest
from standardwebhooks import Webhook
from tests.workers.features.batches.running import DEFAULTS, Running, dead, jobs
from tests.workers.features.webhooks.office import Office
from tests.workers.features.webhooks.receiver import receiving
from tests.workers.ledger_jobs import sqlite_ledger

from headrace_schemas import InvalidRecord
from headrace_schemas.callback import BatchCallback
from headrace_workers.features.batches.new_batch import BatchOptions
from headrace_workers.features.webhooks.registering import callbacks_of
from headrace_workers.features.webhooks.store.deliveries import Range
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.targets import Reach, networks_of

NOBODYS = "we_0123456789abcdef01234567"
METADATA = "https://169.254.169.254/latest"


@pytest.fixture
def running(tmp_path):
    """No batches. That webhooks are the same on each database other tests see."""
    with sqlite_ledger(tmp_path) as ledger:
        yield Running(ledger, tmp_path)


def test_a_receiver_is_told_of_the_end_of_its_batch(running):
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


@pytest.mark.parametrize("own", [True, False], ids=["nobody's", "another tenant's"])
def test_an_endpoint_that_is_not_there_is_refused_at_the_door(running, own):
    office = Office(running.ledger)
    foreign, _ = office.register("https://shop.example/", tenant="b", events=())
    named = NOBODYS if own else foreign
    words = f"callback.endpoint: the tenant a has registered no webhook endpoint {named}"
    with pytest.raises(InvalidRecord, match=words):
        running.submit(jobs(1), callback=BatchCallback(endpoint=named))
    line = json.dumps({"prompt": "p", "callback": {"endpoint": named}}).encode()
    batch_id = running.submit([line, *jobs(1), line])
    running.run()
    running.settle()
    batch = running.batch(batch_id)
    assert (batch.completed, batch.failed) == (1, 2)
    errors = running.error_lines(batch_id)
    assert [line["error"]["code"] for line in errors] == ["invalid"] * 2
    assert words in errors[0]["error"]["message"]


def test_what_is_submitted_again_is_known_though_its_endpoint_is_gone(running):
    """And whoever should have been told is told of by its delivery."""
    office = Office(running.ledger)
    named, _ = office.register("https://shop.example/", tenant="a", events=())
    wishes = {"key": "once", "callback": BatchCallback(endpoint=named)}
    batch_id = running.submit(jobs(1), **wishes)
    running.ledger.of(Webhooks).remove(named)
    assert running.submit(jobs(1), **wishes) == batch_id
    running.run()
    office.deliver()
    (found,) = running.ledger.of(Webhooks).deliveries(Range(tenant="a"), 10)
    assert (found.state, f"the tenant has no endpoint {named}" in found.error) == ("dropped", True)


def test_an_inner_address_is_refused_at_the_door(running):
    words = "callback.url: webhooks may not go there: 169.254.169.254 is not a public address"
    with pytest.raises(InvalidRecord, match=words):
        running.submit(jobs(1), callback=BatchCallback(url=METADATA))
    batch_id = running.submit([json.dumps({"prompt": "p", "callback": {"url": METADATA}}).encode(), *jobs(1)])
    running.run()
    running.settle()
    batch = running.batch(batch_id)
    assert (batch.completed, batch.failed) == (1, 1)
    assert words in running.error_lines(batch_id)[0]["error"]["message"]


def test_an_inner_address_is_told_nothing(running):
    running.reach = Reach(networks_of(["169.254.0.0/16"], "of a test"))
    office = Office(running.ledger)
    with receiving() as receiver:
        running.submit(jobs(1), callback=BatchCallback(url=METADATA))
        running.run()
        office.deliver()
        assert receiver.heard == []
    deliveries = running.ledger.of(Webhooks).deliveries(Range(tenant="a"), 10)
    assert [item.state for item in deliveries] == ["failed"]
    assert "not a public address" in deliveries[0].error


def test_only_the_ends_that_it_asks_for_are_told(running):
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
    """Else the second receiver would wait in vain."""
    callbacks = (None, BatchCallback(url="https://a.example/"), BatchCallback(url="https://b.example/"))
    wishes = [BatchOptions(tenant="a", defaults=DEFAULTS, callback=callback) for callback in callbacks]
    assert len({wish.key("digest") for wish in wishes}) == 3
