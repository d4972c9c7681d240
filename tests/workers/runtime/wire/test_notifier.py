import pytest
import redis

from headrace_workers.runtime.wire.hints import Hint, Notifier


class Client:
    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def publish(self, _channel: str, _said: str) -> None:
        self.asked += 1
        raise self.error


def test_a_redis_that_says_nothing_is_not_told_each_time(monkeypatch: pytest.MonkeyPatch):
    """Each time would take as long as Redis is given for an answer; after a while it is told again."""
    client = Client(redis.TimeoutError())
    notifier = Notifier(client, "bell")
    assert [notifier.notify(Hint.WORK) for _ in range(3)] == [False] * 3
    assert client.asked == 1
    monkeypatch.setattr(notifier, "_silent_until", 0.0)
    notifier.notify(Hint.WORK)
    assert client.asked == 2


def test_one_that_refuses_is_told_at_once_when_it_is_back():
    client = Client(redis.ConnectionError())
    notifier = Notifier(client, "bell")
    for _ in range(3):
        notifier.notify(Hint.WORK)
    assert client.asked == 3
