"""One deployment for a file of fault tests, on each stack: production's services, and the embedded ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.chaos.deployment import ROLES, Deployment, over
from tests.chaos.stacks import EACH, services_of
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


@pytest.fixture(scope="module", params=EACH)
def stack(request: pytest.FixtureRequest, service_folder: Path) -> Iterator[Stack]:
    """Bridge and workers over real services. A test that does not leave it running breaks the tests after it."""
    yield from stack_of(request, service_folder)


def stack_of(request: pytest.FixtureRequest, service_folder: Path) -> Iterator[Stack]:
    """That, for a fixture whose parameter is one of `EACH`."""
    broker, redis, postgres = services_of(request)
    deployment = over(broker, redis, postgres, service_folder, "chaos")
    deployment.prepare()
    deployment.start()
    yield Stack(deployment, broker, redis, postgres, request.param.startswith("apache_kafka"))
    deployment.close()


@pytest.fixture
def deployment(stack: Stack) -> Deployment:
    """The deployment, with the processes that it began with running, and no others."""
    stack.deployment.wake()
    for extra in set(stack.deployment.children) - set(ROLES):
        stack.deployment.retire(extra)
    stack.deployment.revive()
    return stack.deployment
