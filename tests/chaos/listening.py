"""Recall workers that are known to listen: while none is, jobs that ask for the cache go on without, as they should."""

import redis
from tests.chaos.deployment import Deployment

from headrace_workers.core.redis import RedisNames, live_queues


def start_listening(deployment: Deployment, *names: str) -> None:
    """Start these, where they do not run, and wait until one of them is heard."""
    keys = RedisNames(deployment.prefix)
    with redis.Redis.from_url(deployment.redis) as client:
        client.delete(keys.listens("recall"))  # of those that were killed
        deployment.start(*names)
        deployment.wait_until(lambda: bool(live_queues(client, keys, ["recall"])), "a recall worker listens")
