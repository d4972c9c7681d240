"""The publisher's time limits and errors, with a client of the test's own; with brokers: test_relay.py."""

import itertools
from types import SimpleNamespace

import pytest
from kafka.errors import InvalidRecordError, KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from headrace_producers.settings import KafkaSettings
from headrace_schemas import Topic
from headrace_workers.core.ledger.outbox import OutboxRow, Outgoing
from headrace_workers.runtime.bridge.event_publisher import Publisher


class Client:
    """A client that does with each value what the test says, and confirms all else."""

    def __init__(self):
        self.made, self.sent, self.flushed, self.waited, self.closed = [], [], [], [], 0
        self.on_send, self.on_wait = {}, {}
        self._metadata = self

    def make(self, **options):
        self.made.append(options)
        return self

    def partitions_for_topic(self, _topic):
        return {0, 1, 2}

    def leader_for_partition(self, _partition):
        return 1

    def send(self, topic, **record):
        if error := self.on_send.get(record["value"]):
            raise error
        self.sent.append((topic, record))
        return _Future(self, record["value"])

    def flush(self, timeout):
        """Note how many had been taken by then, and fail as the library does when one of them was not confirmed."""
        self.flushed.append((len(self.sent), timeout))
        if self.on_wait:
            raise KafkaTimeoutError("one of them")

    def close(self, timeout=None):
        self.closed += 1


class _Future:
    is_done = True

    def __init__(self, client, value):
        self._client, self._value = client, value

    def get(self, timeout=None):
        self._client.waited.append(timeout)
        if error := self._client.on_wait.get(self._value):
            raise error


@pytest.fixture
def client(monkeypatch):
    client = Client()
    monkeypatch.setattr("kafka.KafkaProducer", client.make)
    return client


@pytest.fixture
def publish(client):
    """Publishes (key, value) pairs, numbered from 0."""
    publisher = Publisher(KafkaSettings.at("127.0.0.1:9", "mine."))

    def call(*pairs, seconds=30.0):
        rows = [
            OutboxRow(n, Outgoing(Topic.OUTPUTS, key, {"ce_type": "t"}, value)) for n, (key, value) in enumerate(pairs)
        ]
        return publisher.publish(rows, timestamp=7, seconds=seconds)

    return call


def test_after_the_time_limit_nothing_is_waited_for(client, publish):
    """What is confirmed by then counts; a wait of less than nothing would be one without end, or an error."""
    client.on_wait = {b"2": KafkaTimeoutError("not yet")}
    done = publish(("a", b"1"), ("b", b"2"), seconds=-5)
    assert client.waited == [0.0, 0.0]
    assert (done.confirmed, done.refused, type(done.error)) == ([0], {}, KafkaTimeoutError)


def test_the_time_limit_is_for_all_together(client, publish, monkeypatch):
    seconds = itertools.count(100.0, 4.0)
    monkeypatch.setattr("headrace_workers.runtime.bridge.event_publisher.LOOK_EVERY", 60.0)
    monkeypatch.setattr(
        "headrace_workers.runtime.bridge.event_publisher.time", SimpleNamespace(monotonic=lambda: next(seconds))
    )
    publish(("a", b"1"), ("b", b"2"), ("c", b"3"), seconds=10)
    assert client.waited == [6.0, 2.0, 0.0]


def test_a_record_is_sent_as_it_was_decided(client, publish):
    publish(("k", b"1"), (None, b"2"))
    headers = [("ce_type", b"t")]
    assert client.sent == [
        ("mine.outputs", {"key": b"k", "value": b"1", "headers": headers, "timestamp_ms": 7}),
        ("mine.outputs", {"key": None, "value": b"2", "headers": headers, "timestamp_ms": 7}),
    ]
    (options,) = client.made
    assert (options["acks"], options["enable_idempotence"]) == ("all", True)


def test_a_client_is_kept_until_something_fails(client, publish):
    """What is in its buffer then must not be sent after what is sent again."""
    publish(("a", b"1"))
    publish(("a", b"1"))
    assert (len(client.made), client.closed) == (1, 0)
    client.on_wait = {b"1": KafkaError("gone")}
    publish(("a", b"1"))
    assert (len(client.made), client.closed) == (1, 1)
    client.on_wait = {}
    assert publish(("a", b"1")).confirmed == [0]
    assert len(client.made) == 2


def test_nothing_is_sent_after_an_error_of_the_client(client, publish):
    first, second = KafkaError("first"), KafkaError("second")
    client.on_send = {b"3": first}
    client.on_wait = {b"2": second}
    done = publish(("a", b"1"), ("b", b"2"), ("c", b"3"), ("d", b"4"))
    assert [record["value"] for _, record in client.sent] == [b"1", b"2"]
    assert (done.confirmed, done.refused, done.error) == ([0], {}, first)


def test_what_follows_under_the_key_of_what_failed_is_not_confirmed(client, publish):
    client.on_wait = {b"1": KafkaError("gone"), b"3": KafkaError("gone")}
    done = publish(("a", b"1"), ("a", b"2"), (None, b"3"), (None, b"4"), ("b", b"5"))
    assert done.confirmed == [3, 4]


@pytest.mark.parametrize("error", [TypeError("odd"), ValueError("odd"), InvalidRecordError("odd")])
def test_what_the_client_will_not_take_is_refused_and_what_follows_it_waits(client, publish, error):
    client.on_send = {b"1": error}
    done = publish(("a", b"1"), ("a", b"2"), ("b", b"3"), (None, b"4"))
    assert done.confirmed == [2, 3]
    assert set(done.refused) == {0}
    assert done.refused[0].startswith("it is refused on the topic mine.outputs: ")
    assert done.refused[0].endswith("odd")
    assert (done.error, len(client.made)) == (None, 1)


def test_what_the_broker_refuses_is_asked_about_alone(client, publish):
    """By a new client each time, since a refusal is the end of one; what follows under its key waits."""
    client.on_wait = {b"2": MessageSizeTooLargeError()}
    done = publish(("a", b"1"), ("b", b"2"), ("b", b"3"), (None, b"4"))
    assert [record["value"] for _, record in client.sent] == [b"1", b"2", b"3", b"4", b"2"]
    assert (sorted(done.confirmed), list(done.refused), done.error) == ([0, 3], [1], None)
    assert done.refused[1].startswith("1 bytes are more than the topic mine.outputs takes: raise its max.message.bytes")
    assert (len(client.made), client.closed) == (2, 2)


def numbered(number, value):
    return OutboxRow(number, Outgoing(Topic.OUTPUTS, f"k{number}", {}, value))


def test_what_is_no_smaller_than_what_was_refused_is_not_sent(client, monkeypatch):
    seconds = [100.0]
    monkeypatch.setattr(
        "headrace_workers.runtime.bridge.event_publisher.time", SimpleNamespace(monotonic=lambda: seconds[0])
    )
    publisher = Publisher(KafkaSettings.at("127.0.0.1:9", "mine."))
    large, larger, fits = b"x" * 100_000, b"x" * 200_000, b"x" * 90_000
    client.on_wait = {large: MessageSizeTooLargeError(), larger: MessageSizeTooLargeError()}

    def refused(*rows):
        before = len(client.made)
        done = publisher.publish(rows, timestamp=7, seconds=30)
        return sorted(done.refused), len(client.made) - before

    assert refused(numbered(1, larger), numbered(2, large), numbered(3, fits), numbered(4, larger)) == ([1, 2, 4], 2)
    assert refused(numbered(5, larger), numbered(6, large), numbered(7, fits)) == ([5, 6], 1)
    assert refused(numbered(8, larger), numbered(9, b"1")) == ([8], 0)
    client.on_wait = {}
    assert refused(numbered(4, larger)) == ([], 0)  # its topic takes it now
    assert refused(numbered(10, larger)) == ([10], 0)
    seconds[0] += 10.1
    assert refused(numbered(11, larger)) == ([], 0)
