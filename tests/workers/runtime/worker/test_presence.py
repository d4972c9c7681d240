import pytest
import redis
from tests.services.eventually import eventually
from tests.services.redis import RedisServer

from headrace_workers.core.progress import Progress
from headrace_workers.core.redis import RedisNames, live_queues
from headrace_workers.runtime.worker.consumer import KEEP_SECONDS, Presence

NAMES = RedisNames("test.")


@pytest.fixture
def client(redis_server: RedisServer):
    with redis.Redis.from_url(redis_server.url, socket_connect_timeout=60, socket_timeout=60) as client:
        client.flushall()
        yield client


def worker(redis_server: RedisServer, *queues: str) -> Presence:
    client = redis.Redis.from_url(redis_server.url, socket_connect_timeout=60, socket_timeout=60)
    return Presence(client, NAMES, lambda: queues, Progress().loop("presence"), beat=0.05, keep=1.0)


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
    with Presence(redis.Redis.from_url(redis_server.url), NAMES, lambda: ["judge"], Progress().loop("presence")):
        eventually(lambda: live_queues(client, NAMES, ["judge"]) == {"judge"})
        assert 0 < client.pttl(NAMES.listens("judge")) <= KEEP_SECONDS * 1000


def test_no_queue_needs_no_redis():
    assert live_queues(redis.Redis(port=1), NAMES, []) == frozenset()
