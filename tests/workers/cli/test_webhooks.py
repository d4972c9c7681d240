import json

import pytest
from sqlalchemy import update
from standardwebhooks import Webhook
from tests.workers.features.webhooks.office import Office
from tests.workers.features.webhooks.receiver import receiving, says
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import evaluation

from headrace_workers.core.sql.database import writing
from headrace_workers.features.webhooks.signing import Sealer, sealing_keys
from headrace_workers.features.webhooks.store.deliveries import Range
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.tables import ENDPOINTS

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@pytest.fixture
def run(call, monkeypatch):
    """Runs a command, which must end with `code`; what it printed. http may go to this machine."""
    monkeypatch.setenv("HEADRACE_WEBHOOK_HTTP", "loopback")
    monkeypatch.setenv("HEADRACE_WEBHOOK_KEY", KEY)

    def once(*words, code=0):
        ended, out, said = call("webhooks", *words)
        assert ended == code, (out, said)
        return out

    return once


@pytest.fixture
def add(run):
    """Registers a receiver; what is told of it."""
    return lambda url, *words: json.loads(run("add", url, "--json", *words))


def test_a_receiver_is_registered_tried_rotated_and_forgotten(ledger, run, add):
    with receiving() as receiver:
        made = add(receiver.url, "--event", "job.failed", "--name", "shop", "--tenant", "acme")
        assert (made["tenant"], made["name"], made["event_types"]) == ("acme", "shop", ["job.failed"])
        tried = json.loads(run("test", made["id"], "--json"))
        assert (tried["status_code"], tried["error"]) == (200, None)
        (heard,) = receiver.heard
        assert Webhook(made["signing_secret"]).verify(heard.body, heard.headers)["type"] == "webhook.test"
        rotated = json.loads(run("rotate", made["id"], "--overlap", "1h", "--json"))
        run("test", made["id"])
        for secret in (made["signing_secret"], rotated["signing_secret"]):
            assert Webhook(secret).verify(receiver.heard[-1].body, receiver.heard[-1].headers)
    shown = run("list", "--json") + run("list")
    assert made["signing_secret"] not in shown
    assert rotated["signing_secret"] not in shown
    assert ledger.of(Webhooks).endpoint(made["id"]).secret.startswith("sealed:")
    run("remove", made["id"], "--yes")
    assert run("list", "--json") == ""


def test_a_secret_that_nobody_was_shown_signs_nothing(ledger, run, add, full_disk):
    made = add("https://shop.example/hooks")
    before = ledger.of(Webhooks).endpoint(made["id"])
    for words in (("rotate", made["id"], "--overlap", "0"), ("add", "https://shop.example/other")):
        with full_disk():
            run(*words, code=1)
    (stands,) = ledger.of(Webhooks).endpoints(None, 10)
    assert (stands.secret, stands.hint, stands.old_secret) == (before.secret, before.hint, before.old_secret)


def test_a_receiver_that_does_not_take_it_is_told(ledger, run, add):
    with receiving(says(500)) as receiver:
        made = add(receiver.url)
        assert json.loads(run("test", made["id"], "--json", code=1))["error"] == "it answered 500"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://169.254.169.254/", ()),
        ("http://shop.example/", ()),
        ("https://user:pass@shop.example/", ()),
        ("https://shop.example/", ("--event", "job.exploded")),
    ],
)
def test_what_cannot_be_registered_is_refused(ledger, run, monkeypatch, url, words):
    monkeypatch.delenv("HEADRACE_WEBHOOK_HTTP")
    run("add", url, *words, code=2)
    assert ledger.of(Webhooks).endpoints() == []


def test_a_secret_of_ones_own_and_a_key_pair(ledger, run, add, tmp_path):
    file = tmp_path / "secret"
    file.write_text("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\n")
    assert add("https://shop.example/", "--secret-file", str(file))["signing_secret"] == file.read_text().strip()
    assert add("https://shop.example/", "--ed25519")["signing_secret"].startswith("whpk_")
    assert add("https://shop.example/", "--named-only")["event_types"] == []


def test_the_secret_of_callbacks_stays_the_same(ledger, run, add):
    first = run("secret", "--tenant", "acme")
    assert first.startswith("whsec_")
    assert run("secret", "--tenant", "acme") == first
    assert run("secret", "--tenant", "other") != first


def test_deliveries_are_listed_and_sent_again(ledger, run, add):
    office = Office(ledger)
    with receiving(says(410, b"never again")) as receiver:
        endpoint = add(receiver.url)["id"]
        take_in(ledger, [evaluation(input=str(n)) for n in range(3)])
        office = Office(ledger, sealer=_sealer())
        office.end()
        office.deliver()
        listed = [json.loads(line) for line in run("deliveries", endpoint, "--json").splitlines()]
        assert {item["state"] for item in listed} == {"dropped"}
        assert {item["status_code"] for item in listed if item["attempts"]} == {410}
        assert len(run("deliveries", endpoint, "--state", "dropped", "--since", "1h", "--json").splitlines()) == 3
        assert run("deliveries", endpoint, "--state", "delivered", "--json") == ""
        one = json.loads(run("deliveries", listed[0]["id"], "--json"))
        assert json.loads(one["body"])["type"] == "job.completed"
        run("update", endpoint, "--enabled")
        receiver.answer = says()
        before = len(receiver.heard)
        shown = json.loads(run("replay", endpoint, "--dry-run", "--json"))
        assert (shown["failed"], shown["sent"]) == (3, 0)
        assert json.loads(run("replay", endpoint, "--since", "1h", "--yes", "--json"))["sent"] == 3
        again = json.loads(run("replay", endpoint, "--since", "1h", "--yes", "--delivered", "--json"))
        assert (again["sent"], again["failed"]) == (0, 0)
        office.deliver()
        assert len(receiver.heard) - before == 3
        again = json.loads(run("replay", endpoint, "--since", "1h", "--yes", "--delivered", "--json"))
        assert (again["sent"], again["just_now"]) == (0, 3)


def test_replay_asks_first(ledger, run, add):
    office = Office(ledger, sealer=_sealer())
    with receiving(says(410)) as receiver:
        endpoint = add(receiver.url)["id"]
        take_in(ledger, [evaluation()])
        office.end()
        office.deliver()
    run("replay", endpoint, code=2)
    assert ledger.of(Webhooks).deliveries(Range(), 10)[0].state == "dropped"


def test_disabled_is_told_nothing_more(ledger, run, add):
    office = Office(ledger, sealer=_sealer())
    with receiving() as receiver:
        endpoint = add(receiver.url)["id"]
        run("update", endpoint, "--disabled", "--reason", "moves house")
        take_in(ledger, [evaluation()])
        assert office.end() == 0
        assert "moves house" in run("list", "--json")
        run("update", endpoint, "--enabled")
        take_in(ledger, [evaluation(input="b")])
        assert office.end() == 1


def _sealer():
    return Sealer(sealing_keys(KEY))


def test_an_endpoint_that_is_paused_shows_until_when(ledger, run):
    run("add", "https://shop.example/hooks")
    with writing(ledger.engine) as tx:
        tx.execute(update(ENDPOINTS).values(failures=5, failing_since=43_200_000, paused_until=86_400_043_200_000))
    shown = " ".join(run("list").split())
    assert "5 failures since 1970-01-01" in shown
    assert "paused until 4707-11-29" in shown, shown
