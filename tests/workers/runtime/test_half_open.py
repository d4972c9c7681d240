"""What reads from Redis beside Celery notices a connection that is half open, says so, and comes back by itself."""

import itertools
import threading
from contextlib import suppress

import pytest
from redis.client import PubSub
from tests.services.eventually import eventually
from tests.services.proxy import proxied

from headrace_workers.core.ledger.claims import Claim
from headrace_workers.core.progress import Awaited, Progress
from headrace_workers.core.redis import RedisNames, redis_client
from headrace_workers.runtime.wire.celery_app import create_app, queue_of
from headrace_workers.runtime.wire.hints import Hint, HintListener, Notifier
from headrace_workers.runtime.wire.taskqueue import TaskQueue
from headrace_workers.runtime.worker.consumer import ClaimConsumer

NAMES = RedisNames("half.")
QUEUE = "model.echo"
SECONDS = 0.5  # that Redis has for an answer: less than in earnest


@pytest.fixture
def proxy(redis_server):
    with redis_client(redis_server.url) as client:
        client.flushall()
    with proxied(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def url(proxy):
    return f"redis://{proxy.address}/0"


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    """The ears wait no longer, either, and both look again soon."""
    for name in ("ASK_AFTER", "ANSWER"):
        monkeypatch.setattr(f"headrace_workers.runtime.wire.hints.{name}", SECONDS)
    for loop in ("wire.hints", "worker.consumer"):
        monkeypatch.setattr(f"headrace_workers.runtime.{loop}._WAIT", 0.1)
        monkeypatch.setattr(f"headrace_workers.runtime.{loop}._PAUSE", 0.1)


@pytest.fixture
def progress():
    """Whose silence is not judged here, and whose time passes."""
    return Progress()


def waits(loop):
    awaited = loop.state().awaited
    return awaited.what if awaited else None


@pytest.mark.parametrize("way", ["both", "up", "down"])
def test_the_ears_hear_again(proxy, url, redis_server, progress, way):
    heard = threading.Event()
    loop = progress.loop("ears")
    ears = HintListener(
        redis_client(url, SECONDS), NAMES.hints, {Hint.WORK: heard, Hint.EVENTS: threading.Event()}, loop
    )
    bell = Notifier(redis_client(redis_server.url), NAMES.hints)

    def rings():
        bell.notify(Hint.WORK)
        return heard.wait(0.1)

    ears.start()
    try:
        eventually(rings)
        proxy.swallow(way)
        eventually(lambda: waits(loop) == "Redis")
        heard.clear()
        proxy.heal()
        eventually(rings)
        eventually(lambda: waits(loop) is None)
    finally:
        ears.stop()


def test_a_silent_bell_is_no_half_open_connection(proxy, url, progress, monkeypatch):
    asked: list[int] = []
    ping = PubSub.ping

    def ask(self):
        if self.connection_pool.connection_kwargs["port"] == proxy.port:  # others of this process ask, too
            asked.append(id(self))
        return ping(self)

    monkeypatch.setattr(PubSub, "ping", ask)
    monkeypatch.setattr("headrace_workers.runtime.wire.hints.ASK_AFTER", 0.2)
    monkeypatch.setattr("headrace_workers.runtime.wire.hints.ANSWER", 60.0)
    loop = progress.loop("ears")
    ears = HintListener(redis_client(url), NAMES.hints, {hint: threading.Event() for hint in Hint}, loop)
    ears.start()
    try:
        eventually(lambda: len(asked) >= 3)
        assert len(set(asked)) == 1
        assert waits(loop) is None
    finally:
        ears.stop()


def test_the_express_takes_claims_again(proxy, url, redis_server, progress):
    taken, numbers = list[int](), itertools.count(1)
    loop = progress.loop("express")
    express = ClaimConsumer(
        create_app(url, SECONDS), queue_of(NAMES, QUEUE), lambda claim, _ledger: taken.append(claim), loop
    )
    tasks = TaskQueue(redis_client(redis_server.url), NAMES, "ledger")

    def takes():
        """A claim that is on its way when a read is given up is lost to the express: then another is sent."""
        number = next(numbers)
        tasks.send(Claim(number, QUEUE, "generate", 0, 1))
        with suppress(AssertionError):
            return eventually(lambda: number in taken, 5)

    express.start()
    try:
        eventually(takes)
        proxy.swallow()
        eventually(lambda: waits(loop) == "Redis")
        proxy.heal()
        eventually(lambda: waits(loop) is None)
        eventually(takes)
    finally:
        express.stop(5)


def test_the_express_that_runs_a_claim_waits_for_nothing(redis_server, progress):
    loop, told = progress.loop("express"), list[str | None]()
    express = ClaimConsumer(
        create_app(redis_server.url), queue_of(NAMES, QUEUE), lambda *_: told.append(waits(loop)), loop
    )
    loop.beat(Awaited("Redis", "it was away"))
    TaskQueue(redis_client(redis_server.url), NAMES, "ledger").send(Claim(1, QUEUE, "generate", 0, 1))
    express.start()
    try:
        eventually(lambda: told)
    finally:
        express.stop(5)
    assert told == [None]
