import ipaddress
import threading
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from standardwebhooks import Webhook
from tests.services.eventually import eventually
from tests.workers.features.webhooks.certificates import Authority
from tests.workers.features.webhooks.receiver import (
    closes,
    drips_body,
    drips_headers,
    endless,
    hangs,
    receiving,
    says,
)

from headrace_workers.features.webhooks import sender as module
from headrace_workers.features.webhooks.sender import UNREACHED, Letter, Sender
from headrace_workers.features.webhooks.signing import new_secret
from headrace_workers.features.webhooks.targets import Reach, networks_of

NOW = 1_800_000_000  # s
SECRET = new_secret("v1")
HERE = Reach(http_loopback=True)


def letter(url, name="m-1", body=b'{"a":1}'):
    return Letter(name, url, body, (SECRET,))


def send(sender, *letters, probing=False, patience=5):
    return sender.send("we_1", letters, probing=probing, patience=patience)


@pytest.fixture
def sender():
    """One as workers have it: its patience is for hangs, which no test here waits for."""
    return Sender(HERE)


def test_a_letter_arrives_as_it_is_signed():
    with receiving(says(204, b"")) as receiver:
        (reply,) = send(Sender(HERE), letter(receiver.url))
        (heard,) = receiver.heard
    assert (reply.taken, reply.status, reply.error, reply.text) == (True, 204, None, "")
    assert (heard.path, heard.body, heard.headers["webhook-id"]) == ("/hooks?for=us", b'{"a":1}', "m-1")
    assert Webhook(SECRET).verify(heard.body, heard.headers) == {"a": 1}
    assert heard.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert heard.headers["user-agent"].startswith("headrace/")
    assert heard.headers["content-type"] == "application/json"
    assert "cookie" not in heard.headers


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (says(500, b"oh"), 500, "it answered 500"),
        (says(404), 404, "it answered 404"),
        (says(410), 410, "wants nothing more"),
        (closes, None, "closed the connection"),
    ],
)
def test_what_is_not_taken_is_told(sender, answer, status, error):
    with receiving(answer) as receiver:
        (reply,) = send(sender, letter(receiver.url))
    assert (reply.taken, reply.status, reply.hopeless) == (False, status, False)
    assert error in reply.error
    assert reply.gone == (status == 410)


@pytest.mark.parametrize("answer", [hangs, drips_headers])
def test_one_that_does_not_answer_in_time_is_told(answer):
    with receiving(answer) as receiver:
        (reply,) = send(Sender(HERE, seconds=0.4), letter(receiver.url))
    assert (reply.taken, reply.status, reply.hopeless, reply.gone) == (False, None, False, False)
    assert reply.error == "no answer within 0.4 s"


def test_redirects_are_not_followed(sender):
    with receiving() as other, receiving(says(302, location=other.url)) as receiver:
        (reply,) = send(sender, letter(receiver.url))
        assert (reply.status, other.heard) == (302, [])
    assert "redirects are not followed" in reply.error


def test_an_answer_of_two_gigabytes_is_not_read(sender):
    with receiving(endless) as receiver:
        (reply,) = send(sender, letter(receiver.url))
        assert receiver.written < 64 * 1024**2
    assert (reply.taken, reply.status) == (True, 200)
    assert reply.text == "x" * 1_024


def test_an_answer_that_drips_is_taken_at_its_status(sender, monkeypatch):
    monkeypatch.setattr(module, "BODY_SECONDS", 0.05)
    with receiving(drips_body) as receiver:
        (reply,) = send(sender, letter(receiver.url))
    assert (reply.taken, reply.status) == (True, 200)
    assert set(reply.text) <= {"a"}


def test_nobody_learns_from_a_reply_where_a_name_leads(caplog):
    async def resolve(name):
        if name == "unknown.example":
            raise OSError("Name or service not known")
        return {"postgres.example": ["172.18.0.3"], "empty.example": []}.get(name, ["127.0.0.1"])

    with receiving() as receiver:
        closed = f"https://closed.example:{receiver.port}/"
    reach = Reach(networks=networks_of(["127.0.0.0/8"], "of a test"), ports=frozenset({443, receiver.port}))
    sender, replies = Sender(reach, resolve=resolve), []
    for url in ("https://postgres.example/", "https://unknown.example/", "https://empty.example/", closed, closed):
        replies += send(sender, letter(url))
    assert {(reply.error, reply.text, reply.status, reply.hopeless) for reply in replies} == {
        (UNREACHED, "", None, False)
    }
    told = [record.message for record in caplog.records if getattr(record, "action", "") == "unreached"]
    assert len(told) == 4  # each host once a minute
    assert "nothing is sent to postgres.example: 172.18.0.3 is not a public address" in told[0]
    assert "unknown.example cannot be resolved: Name or service not known" in told[1]
    assert "empty.example has no address" in told[2]
    assert "closed.example" in told[3]


def test_a_wrong_url_is_hopeless(sender):
    (reply,) = send(sender, letter("https://127.0.0.1/"))
    assert (reply.hopeless, reply.status) == (True, None)


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("120", 120, 120),
        ("1000000", 86_400, 86_400),
        (format_datetime(datetime.fromtimestamp(NOW + 3_600, UTC), usegmt=True), 3_600, 3_600),
        ("0", None, None),
        ("soon", None, None),
        (format_datetime(datetime.fromtimestamp(NOW - 3_600, UTC), usegmt=True), None, None),
    ],
)
def test_a_receiver_says_when_to_come_again(value, least, most):
    with receiving(says(503, retry_after=value)) as receiver:
        (reply,) = send(Sender(HERE, now=lambda: NOW), letter(receiver.url))
    assert reply.after is None if least is None else least <= reply.after <= most


def test_an_answer_that_is_taken_asks_for_no_pause(sender):
    with receiving(says(200, retry_after="60")) as receiver:
        (reply,) = send(sender, letter(receiver.url))
    assert reply.after is None


# -- several at once


def test_a_few_are_on_their_way_at_a_time():
    import threading

    lock, now, most = threading.Lock(), [0], [0]

    def answer(receiver, handler, heard):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        says()(receiver, handler, heard)
        with lock:
            now[0] -= 1

    with receiving(answer) as receiver:
        replies = send(Sender(HERE), *(letter(receiver.url, f"m-{n}") for n in range(100)))
        assert sorted(heard.headers["webhook-id"] for heard in receiver.heard) == sorted(f"m-{n}" for n in range(100))
    assert all(reply.taken for reply in replies)
    assert 1 <= most[0] <= 8


def test_one_that_fails_again_and_again_is_left(sender):
    with receiving(says(500)) as receiver:
        replies = send(sender, *(letter(receiver.url, f"m-{n}") for n in range(100)), patience=5)
        tried = [reply for reply in replies if reply is not None]
        assert 5 <= len(tried) == len(receiver.heard) <= 5 + 8


def test_a_probe_goes_alone(sender):
    """Where it is not taken nothing else is sent; where it is, all are."""
    with receiving(says(500)) as receiver:
        replies = send(sender, *(letter(receiver.url, f"m-{n}") for n in range(5)), probing=True)
        assert [reply is not None for reply in replies] == [True, False, False, False, False]
        assert len(receiver.heard) == 1
        receiver.answer = says()
        replies = send(sender, *(letter(receiver.url, f"m-{n}") for n in range(5)), probing=True)
        assert all(reply.taken for reply in replies)


@pytest.mark.parametrize("answer", [says(410), says(503, retry_after="60")])
def test_who_wants_nothing_now_is_sent_nothing_more(answer):
    with receiving(answer) as receiver:
        replies = send(Sender(HERE), *(letter(receiver.url, f"m-{n}") for n in range(50)))
        assert sum(reply is not None for reply in replies) == len(receiver.heard) <= 8


def test_one_that_hangs_has_one_claim_at_a_time():
    with receiving(hangs) as receiver:
        slow = Sender(HERE, seconds=600)
        first = threading.Thread(target=lambda: done.append(send(slow, letter(receiver.url))))
        done = []
        first.start()
        eventually(lambda: receiver.heard)
        left = [send(slow, letter(receiver.url, f"m-{n}"), letter(receiver.url, f"n-{n}")) for n in range(3)]
        assert left == [[None, None]] * 3
        assert len(receiver.heard) == 1
        assert slow.others_wait("we_1")
        assert not slow.others_wait("we_1")
        receiver.over.set()
        first.join(120)
        receiver.answer = says()
        assert [reply.taken for reply in send(slow, letter(receiver.url), letter(receiver.url))] == [True, True]


# -- to the address that was checked


def test_tls_is_about_the_name_and_the_connection_goes_to_the_address(tmp_path):
    authority, asked = Authority(tmp_path), []

    async def resolve(name):
        asked.append(name)
        return ["127.0.0.1"]

    with receiving(context=authority.server("shop.example")) as receiver:
        reach = Reach(networks=(ipaddress.ip_network("127.0.0.0/8"),), ports=frozenset({receiver.port}))
        sender = Sender(reach, resolve=resolve, context=authority.client())
        url = f"https://shop.example:{receiver.port}/hooks"
        replies = [send(sender, letter(url))[0] for _ in range(3)]
        assert [reply.error for reply in replies] == [None] * 3
        assert {heard.headers["host"] for heard in receiver.heard} == {f"shop.example:{receiver.port}"}
        assert receiver.server_names == ["shop.example"]
        assert asked == ["shop.example"]
        (reply,) = send(sender, letter(f"https://other.example:{receiver.port}/hooks"))
        assert "certificate is not valid" in reply.error
        assert len(receiver.heard) == 3


def test_a_certificate_of_nobody_we_trust_is_refused(tmp_path):
    authority = Authority(tmp_path)

    async def resolve(_name):
        return ["127.0.0.1"]

    with receiving(context=authority.server("shop.example")) as receiver:
        reach = Reach(networks=(ipaddress.ip_network("127.0.0.0/8"),), ports=frozenset({receiver.port}))
        (reply,) = send(Sender(reach, resolve=resolve), letter(f"https://shop.example:{receiver.port}/hooks"))
        assert "certificate is not valid" in reply.error
        assert receiver.heard == []


@pytest.mark.parametrize(
    "answers",
    [
        ["169.254.169.254"],
        ["127.0.0.1"],
        ["93.184.216.34", "127.0.0.1"],
        ["10.0.0.1"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%2"],
        ["0.0.0.0"],
        ["64:ff9b::7f00:1"],
    ],
)
def test_a_name_that_leads_inside_is_refused(answers):
    async def resolve(_name):
        return answers

    (reply,) = send(Sender(Reach(), resolve=resolve), letter("https://rebind.example/"))
    assert (reply.status, reply.hopeless) == (None, False)
    assert reply.error == UNREACHED


def test_a_name_that_changes_its_address_gains_nothing(monkeypatch):
    """What was checked is what is connected to: a second question, which would lead inside, is never asked for that
    connection; and the next connection's answer is checked anew.
    """
    monkeypatch.setattr(module, "IDLE_CONNECTIONS", 0)  # each letter a connection of its own
    answers = iter([["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1", "10.0.0.1"], ["127.0.0.1"]])
    asked = []

    async def rebinding(name):
        asked.append(name)
        return next(answers)

    with receiving() as receiver:
        sender = Sender(HERE, resolve=rebinding)
        url = f"http://rebind.example:{receiver.port}/hooks"
        replies = [send(sender, letter(url))[0] for _ in range(4)]
        assert [reply.taken for reply in replies] == [True, False, False, True]
        assert len(receiver.heard) == 2
    assert asked == ["rebind.example"] * 4


def test_of_several_addresses_one_that_answers_is_enough():
    async def resolve(_name):
        return ["127.0.0.2", "127.0.0.1"]

    with receiving() as receiver:
        (reply,) = send(Sender(HERE, resolve=resolve), letter(f"http://two.example:{receiver.port}/"))
    assert reply.taken
