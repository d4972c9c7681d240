"""Limits of tenants: requests a second, shared by all gateways, and work under way at a time in this one."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from weakref import WeakValueDictionary

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError

from headrace_workers.core.log import Action, log
from headrace_workers.core.redis import RedisNames
from headrace_workers.http.errors import Refusal, Why

Slot: TypeAlias = asyncio.Semaphore  # `release` gives it back
_AWAY_SECONDS: Final = 5.0  # without asking a Redis that did not answer
_BURST_SECONDS: Final = 10.0  # a bucket holds what may be asked in so long
_AT_ONCE_SECONDS: Final = 0.05  # a gateway takes the tokens of so long together: not every request asks Redis
_KEPT_SECONDS: Final = 1.0  # then unused tokens expire
_MOST_BUCKETS: Final = 10_000

# The clock is Redis' own; where it is set back, the time counts from then on. Takes `wish` or what there is of it, and
# `want` at least; else tells in how long `want` is there.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local rate, size, want, wish = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(size, (tonumber(kept[1]) or size) + math.max(0, now - (tonumber(kept[2]) or now)) * rate)
local taken = tokens < want and 0 or math.min(wish, math.floor(tokens))
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens - taken), 'at', tostring(now))
redis.call('PEXPIRE', KEYS[1], math.ceil(size / rate * 1000))
return {tostring(taken), tostring(taken > 0 and 0 or (want - tokens) / rate)}
"""


class TenantSlots:
    """The slots of each tenant for one kind of work, which `what` names in errors. Belongs to the event loop."""

    def __init__(self, what: str, most: int) -> None:
        self._what = what
        self._most = most
        self._tenants: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def take(self, tenant: str) -> Slot:
        """Take a slot, which must be released. Raise 429 where the tenant has as many as it may."""
        slots = self._of(tenant)
        if slots.locked():
            raise Refusal(
                Why.BUSY,
                f"the tenant {tenant} has {self._most} {self._what} under way here, which is the limit: wait until "
                "one ends",
                retry_after=1.0,
            )
        await slots.acquire()
        return slots

    async def wait(self, tenant: str, until: float) -> Slot:
        """Wait for a slot, which must be released. Raise TimeoutError where none is free by this time of the loop."""
        slots = self._of(tenant)
        async with asyncio.timeout_at(until):
            await slots.acquire()
        return slots

    def _of(self, tenant: str) -> asyncio.Semaphore:
        semaphore = self._tenants.get(tenant)
        if semaphore is None:
            semaphore = self._tenants[tenant] = asyncio.Semaphore(self._most)
        return semaphore


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


def client(url: str, seconds: float) -> Redis:
    """Return a Redis client that gives up after so many seconds: requests wait for it.

    A connection that died while idle is replaced by a new one, once; a silent Redis is not asked twice.
    """
    made: Redis = Redis.from_url(
        url,
        socket_connect_timeout=seconds,
        socket_timeout=seconds,
        retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionLost,)),
    )
    return made


class RateLimiter:
    """The rate limits of tenants. Belongs to the event loop. `rate` is in requests and jobs a second; 0: any number."""

    def __init__(
        self,
        redis: Redis | None,
        names: RedisNames,
        rate: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._names = names
        self._rate = rate
        self._size = max(1.0, rate * _BURST_SECONDS)
        self._monotonic = monotonic
        self._taken: dict[str, _Bucket] = {}  # from Redis, and not used yet
        self._own: dict[str, _Bucket] = {}
        self._unavailable_until = float("-inf")
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def is_unavailable(self) -> bool:
        """True if Redis did not answer lately."""
        return self._monotonic() < self._unavailable_until

    async def take(self, tenant: str, want: int) -> None:
        """Take so many tokens. 429 with the seconds until they are there; 400 for more than can ever be."""
        if not self._rate or want <= 0:
            return
        if want > self._size:
            raise Refusal(Why.INVALID, f"{want} jobs in one request are too many: a tenant may send "
                          f"{self._size:.0f} at a time")  # fmt: skip
        if self._take_kept(tenant, want):
            return
        # One request of a tenant asks Redis at a time; the requests that wait for it use the tokens that it brings.
        async with self._asking.setdefault(tenant, asyncio.Lock()):
            if self._take_kept(tenant, want):
                return
            wait = await self._ask(tenant, want, self._monotonic())
        if wait > 0:
            raise Refusal(
                Why.RATE,
                f"the tenant {tenant} sends more than {self._rate:g} requests a second: wait {wait:.2f} s",
                retry_after=wait,
            )

    async def close(self) -> None:
        """Let go of Redis."""
        if self._redis is not None:
            await self._redis.aclose()

    def _take_kept(self, tenant: str, want: int) -> bool:
        taken = self._taken.get(tenant)
        if taken is None or taken.tokens < want or self._monotonic() - taken.at >= _KEPT_SECONDS:
            return False
        taken.tokens -= want
        return True

    async def _ask(self, tenant: str, want: int, now: float) -> float:
        """Return 0 if the tokens were taken, else the seconds until they are available."""
        if self._redis is None or self.is_unavailable:
            return self._take_own(tenant, want, now)
        wish = max(want, int(self._rate * _AT_ONCE_SECONDS))
        try:
            reply: Any = await self._redis.eval(_TAKE, 1, self._names.rate(tenant), self._rate, self._size, want, wish)
        except (RedisError, OSError) as error:
            self._unavailable_until = now + _AWAY_SECONDS
            log("gateway", logging.WARNING, Action.UNAVAILABLE,
                "Redis does not answer: each gateway counts by itself how often tenants ask",
                reason=type(error).__name__)  # fmt: skip
            return self._take_own(tenant, want, now)
        count, wait = float(reply[0]), float(reply[1])
        if count >= want:
            _keep(self._taken, tenant, _Bucket(count - want, now))
        return wait

    def _take_own(self, tenant: str, want: int, now: float) -> float:
        bucket = self._own.get(tenant) or _Bucket(self._size, now)
        tokens = min(self._size, bucket.tokens + (now - bucket.at) * self._rate)
        enough = tokens >= want
        _keep(self._own, tenant, _Bucket(tokens - want if enough else tokens, now))
        return 0.0 if enough else (want - tokens) / self._rate


def _keep(buckets: dict[str, _Bucket], tenant: str, bucket: _Bucket) -> None:
    buckets.pop(tenant, None)
    buckets[tenant] = bucket
    if len(buckets) > _MOST_BUCKETS:
        del buckets[next(iter(buckets))]
