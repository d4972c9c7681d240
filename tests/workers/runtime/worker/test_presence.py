import itertools

import pytest
import redis
from tests.services.eventually import eventually
from tests.services.redis import RedisServer

from headrace_workers.core.progress import Progress
from headrace_workers.core.redis import RedisNames, live_queues, live_workers, tell_alive
from headrace_workers.runtime.worker.consumer import KEEP_SECONDS, Presence

NAMES = RedisNames("test.")
_NUMBERS = itertools.count()


@pytest.fixture
def client(redis_server: RedisServer):
    with redis.Redis.from_url(redis_server.url, socket_connect_timeout=60, socket_timeout=60) as client:
        client.flushall()
        yield client


def worker(redis_server: RedisServer, *queues: str) -> Presence:
    client = redis.Redis.from_url(redis_server.url, socket_connect_timeout=60, socket_timeout=60)
    slots = dict.fromkeys(queues, 2)
    name = f"worker {next(_NUMBERS)}"
    return Presence(client, NAMES, lambda: slots, Progress().loop("presence"), worker=name, beat=0.05, keep=1.0)


def test_what_a_worker_listens_to_is_served(redis_server, client):
    with worker(redis_server, "model.a", "judge"):
        eventually(lambda: live_queues(client, NAMES, ["model.a", "judge", "moderate"]) == {"model.a", "judge"})
    eventually(lambda: live_queues(client, NAMES, ["model.a", "judge"]) == frozenset())


def test_one_of_two_workers_is_enough(redis_server, client):
    with worker(redis_server, "judge"):
        with worker(redis_server, "judge"):
            eventually(lambda: live_queues(client, NAMES, ["judge"]) == {"judge"})
        client.delete(NAMES.listens("judge"))  # whatever the first one wrote
        eventually(lambda: live_queues(client, NAMES, ["judge"]) == {"judge"})


def test_a_redis_that_forgot_or_died_is_told_again(redis_server, client):
    with worker(redis_server, "judge"):
        eventually(lambda: live_queues(client, NAMES, ["judge"]) == {"judge"})
        client.flushall()
        eventually(lambda: live_queues(client, NAMES, ["judge"]) == {"judge"})
        redis_server.kill()
        assert live_queues(client, NAMES, ["judge"]) is None
        redis_server.restart()
        eventually(lambda: live_queues(client, NAMES, ["judge"]) == {"judge"})


def test_the_sign_of_life_ends_by_itself(redis_server, client):
    slots = {"judge": 1}
    with Presence(
        redis.Redis.from_url(redis_server.url), NAMES, lambda: slots, Progress().loop("presence"), worker="w"
    ):
        eventually(lambda: live_queues(client, NAMES, ["judge"]) == {"judge"})
        assert 0 < client.pttl(NAMES.listens("judge")) <= KEEP_SECONDS * 1000


def test_no_queue_needs_no_redis():
    assert live_queues(redis.Redis(port=1), NAMES, []) == frozenset()


def test_living_workers_are_counted_by_queue(redis_server, client):
    with worker(redis_server, "judge", "moderate"):
        with worker(redis_server, "judge"):
            eventually(lambda: live_workers(client, NAMES) == {"judge": [2, 2], "moderate": [2]})
        eventually(lambda: live_workers(client, NAMES) == {"judge": [2], "moderate": [2]})
    eventually(lambda: live_workers(client, NAMES) == {})


def test_a_worker_that_was_killed_is_not_counted_for_long(client):
    tell_alive(client, NAMES, "w", {"judge": 1}, 60.0)
    tell_alive(client, NAMES, "killed", {"judge": 1}, -1.0)
    assert live_workers(client, NAMES) == {"judge": [1]}


def test_a_queue_that_a_worker_leaves_has_it_no_more(redis_server, client):
    slots = {"model.a": 2, "model.b": 2}
    presence = Presence(
        client, NAMES, lambda: dict(slots), Progress().loop("presence"), worker="w", beat=0.05, keep=60.0
    )
    with presence:
        eventually(lambda: live_workers(client, NAMES) == {"model.a": [2], "model.b": [2]})
        del slots["model.a"]
        slots["model.b"] = 3
        eventually(lambda: live_workers(client, NAMES) == {"model.b": [3]})


def test_workers_are_not_known_without_redis():
    assert live_workers(redis.Redis(port=1), NAMES) is None
