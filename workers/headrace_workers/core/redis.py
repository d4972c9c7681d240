"""Redis: a client that gives up soon, the names of a deployment's keys, and the queues that a worker listens to."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

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

    @property
    def workers(self) -> str:
        """Return the sorted set of the workers that live, by the time until which each does."""
        return f"{self.prefix}workers"


def tell_alive(client: redis.Redis, names: RedisNames, worker: str, slots: Mapping[str, int], keep: float) -> None:
    """Tell for `keep` seconds that a worker lives, which runs so many claims of each queue side by side.

    Times are Redis' own, since no two hosts have the same.
    """
    if not slots:
        return
    seconds, microseconds = client.time()
    until = seconds + microseconds / 1e6 + keep
    client.zadd(names.workers, {f"{queue} {count} {worker}": until for queue, count in slots.items()})


def tell_gone(client: redis.Redis, names: RedisNames, worker: str, slots: Mapping[str, int]) -> None:
    """Tell that a worker ends."""
    if slots:
        client.zrem(names.workers, *(f"{queue} {count} {worker}" for queue, count in slots.items()))


def live_workers(client: redis.Redis, names: RedisNames) -> dict[str, list[int]] | None:
    """Return how many claims each living worker of a queue runs side by side; None when Redis does not answer."""
    try:
        seconds, _ = client.time()
        client.zremrangebyscore(names.workers, "-inf", seconds)
        members: Any = client.zrange(names.workers, 0, -1)
    except REDIS_ERRORS:
        return None
    found: dict[str, list[int]] = {}
    for member in members:
        queue, slots, _ = member.decode().split(" ", 2)
        found.setdefault(queue, []).append(int(slots))
    return found


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
