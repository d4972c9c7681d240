"""A client of Redis that gives up soon: Redis carries hints and claims, and the ledger has both."""

from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

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
