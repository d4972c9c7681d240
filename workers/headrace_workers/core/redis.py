"""Redis: a client that gives up soon, the names of a deployment's keys, and the queues that a worker listens to."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from headrace_workers.core.outage import REDIS_ERRORS

ANSWER_SECONDS: Final = 5.0  # Redis has so long for anything
HINT_SECONDS: Final = 0.5  # and so long for what only saves time: somebody waits for what is done besides


def redis_client(url: str, seconds: float = ANSWER_SECONDS) -> redis.Redis:
    """Return a client whose every call is bounded, also on a half-open connection. ValueError for what is no URL."""
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=seconds,
        socket_timeout=seconds,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),  # its own retries would take half a minute, unseen: ours are logged
    )


# Each has a Redis list of its own, by its priority, and workers look at them in this order. `ahead` is batch work that
# was overtaken long enough.
Line = Literal["ahead", "interactive", "batch"]
PRIORITIES: Final[dict[Line, int]] = {"ahead": 0, "interactive": 3, "batch": 9}
_SEPARATOR = "\x06\x16"  # kombu's, between a queue's name and its priority


@dataclass(frozen=True, slots=True)
class RedisNames:
    """The names of one deployment."""

    prefix: str

    def queue(self, queue: str) -> str:
        """Return a queue of claims, as Celery knows it."""
        return f"{self.prefix}{queue}"

    def line(self, queue: str, line: Line) -> str:
        """Return the list that holds one line of a queue."""
        priority = PRIORITIES[line]
        return f"{self.queue(queue)}{_SEPARATOR}{priority}" if priority else self.queue(queue)

    @property
    def hints(self) -> str:
        """Return the channel of hints."""
        return f"{self.prefix}wake"

    def rate(self, tenant: str) -> str:
        """Return the bucket that says how often a tenant may still ask."""
        return f"{self.prefix}rate:{tenant}"

    def calls(self, key: str) -> str:
        """Return the rates at which a provider's key is used."""
        return f"{self.prefix}calls:{key}"

    def listens(self, queue: str) -> str:
        """Return the key that is there while a worker listens to a queue."""
        return f"{self.prefix}listens:{queue}"


def live_queues(client: redis.Redis, names: RedisNames, queues: Collection[str]) -> frozenset[str] | None:
    """Return the queues that a worker listens to; None when Redis does not answer."""
    wanted = list(queues)
    if not wanted:
        return frozenset()
    try:
        found = client.mget([names.listens(queue) for queue in wanted])
    except REDIS_ERRORS:
        return None
    return frozenset(queue for queue, value in zip(wanted, found, strict=True) if value is not None)
