"""Jobs that ask for the same at a time, while what they depend on dies: nothing is lost, and nobody waits for ever."""

import pytest
import redis as redis_client
from tests.chaos.deployment import ROLES, Deployment, over
from tests.chaos.history import query
from tests.chaos.mid_run import fresh_key, verdict
from tests.chaos.stacks import PRODUCTION, services_of

from headrace_workers.core.redis import RedisNames, live_queues
from headrace_workers.models.embedders.hashed import make_hash_embedder

pytestmark = pytest.mark.chaos

RECALL = ("worker", "--role", "recall")
BOTH = ("recall", "recall-2")
WORDINGS = ("How do I reset the password of my account?", "How do I reset my account's password?",
            "How do I reset the password for my account?", "how do I reset my account password?")  # fmt: skip


def start_listening(deployment: Deployment, *names: str) -> None:
    """Start these, where they do not run, and wait until one is heard: while none is, jobs go on without the cache."""
    keys = RedisNames(deployment.prefix)
    with redis_client.Redis.from_url(deployment.redis) as client:
        client.delete(keys.listens("recall"))  # of those that were killed
        deployment.start(*names)
        deployment.wait_until(lambda: bool(live_queues(client, keys, ["recall"])), "a recall worker listens")


@pytest.fixture(params=[PRODUCTION])
def deployment(request, service_folder):
    """A deployment with two recall workers, whose embedder has no weights."""
    broker, redis, postgres = services_of(request)
    made = over(
        broker,
        redis,
        postgres,
        service_folder,
        "bursts",
        roles={**ROLES, "recall": RECALL, "recall-2": RECALL},
    )
    made.extra = {
        text: {"HEADRACE_EMBEDDER": "hash", "HEADRACE_SIMILARITY": "0.7", "HEADRACE_SERVE_UNSHOWN": "true"}
        for text in BOTH
    }
    made.prepare()
    make_hash_embedder(made.folder)
    made.start()
    start_listening(made, *BOTH)
    yield made
    made.close()


def burst(deployment: Deployment, count: int) -> list[str]:
    return deployment.publish([WORDINGS[number % len(WORDINGS)] for number in range(count)], fresh_key("burst"),
                              cache="semantic")  # fmt: skip


def coalesced(deployment: Deployment, count: int) -> list[str]:
    """A burst of which nearly all wait, since nobody makes answers now."""
    deployment.kill("generate")
    ids = burst(deployment, count)
    deployment.wait_until(lambda: waiting(deployment) + made(deployment) == count, "all wait for a few")
    assert waiting(deployment) >= count - 10
    return ids


def waiting(deployment: Deployment) -> int:
    return int(query(deployment.watched, "SELECT count(*) FROM steps WHERE state = 'parked'")[0][0][0])


def made(deployment: Deployment) -> int:
    return int(query(deployment.watched, "SELECT count(*) FROM steps WHERE stage = 'generate'")[0][0][0])


@pytest.fixture
def redis(request):
    return request.getfixturevalue("redis_server")


@pytest.mark.slow
def test_redis_is_wiped_during_a_burst(deployment, redis):
    ids = coalesced(deployment, 60)
    with redis_client.Redis.from_url(redis.url) as client:
        client.flushall()
    redis.kill()
    redis.restart()
    start_listening(deployment, *BOTH)
    verdict(deployment, ids)
    assert waiting(deployment) == 0
    assert made(deployment) < 10
    verdict(deployment, burst(deployment, 20))


@pytest.mark.slow
def test_whoever_leads_a_burst_is_killed(deployment):
    ids = coalesced(deployment, 60)
    for name in BOTH:
        deployment.kill(name)
    start_listening(deployment, *BOTH)
    verdict(deployment, ids)
    assert made(deployment) < 10
    ids = deployment.publish([f"{wording} Now?" for wording in WORDINGS] * 10, fresh_key("burst"), cache="semantic")
    for name in BOTH:
        deployment.kill(name)
    verdict(deployment, ids)
    assert waiting(deployment) == 0
