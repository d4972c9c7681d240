"""Queues that a worker listens to, as workers report over Redis."""

from collections.abc import Collection

import redis

from headrace_workers.core.outage import REDIS_ERRORS
from headrace_workers.runtime.wire.redis_names import RedisNames


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
