"""One deployment for a file of fault tests, on each stack: production's services, and the embedded ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis as redis_client
from tests.chaos.deployment import ROLES, Deployment, over
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer


@dataclass
class Stack:
    """A deployment and the servers under it. `postgres` is None over SQLite; `durable`: the broker has a log."""

    deployment: Deployment
    broker: KafkaServer
    redis: RedisServer
    postgres: PostgresServer | None
    durable: bool


@pytest.fixture(scope="module", params=["apache_kafka-postgres", "embedded_kafka-sqlite"])
def stack(request: pytest.FixtureRequest, service_folder: Path) -> Iterator[Stack]:
    """Bridge and workers over real services. Each test leaves it running, or breaks those that follow."""
    broker_name, _, database = request.param.partition("-")
    broker = request.getfixturevalue(broker_name)
    redis = request.getfixturevalue("redis_server")
    postgres = request.getfixturevalue("postgres") if database == "postgres" else None
    with redis_client.Redis.from_url(redis.url) as client:
        client.flushall()  # claims of another ledger have the same numbers
    deployment = over(broker, redis, postgres, service_folder, "chaos")
    deployment.prepare()
    deployment.start()
    yield Stack(deployment, broker, redis, postgres, broker_name == "apache_kafka")
    deployment.close()


@pytest.fixture
def deployment(stack: Stack) -> Deployment:
    """The deployment, with the processes that it began with running, and no others."""
    stack.deployment.wake()
    for extra in set(stack.deployment.children) - set(ROLES):
        stack.deployment.retire(extra)
    stack.deployment.revive()
    return stack.deployment
