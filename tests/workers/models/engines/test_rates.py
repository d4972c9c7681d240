"""Rates of a provider's key: the same rules with Redis, which workers share, and without it."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from tests.services.provider import providing
from tests.services.redis import RedisServer
from tests.workers.models.engines.remote_models import ask, remote

from headrace_workers.core.ledger.outcome import ProviderBusy
from headrace_workers.core.redis import redis_client
from headrace_workers.models.catalogue import RemoteModel, SecretReference
from headrace_workers.models.engines.remote.rates import CallRates, key_of
from headrace_workers.models.generator import Completion

Make = Callable[..., CallRates]


def model(**entries: object) -> RemoteModel:
    known = {"model": "m", "endpoint": "http://localhost:1/v1", "provider": "own"}
    return RemoteModel.model_validate({**known, **entries})


def until_refused(take: Callable[[], float]) -> tuple[int, float, float]:
    """Make calls until one is refused: how many were made, the wait that the last was told, and the seconds of all."""
    began, made = time.monotonic(), 0
    while not (refused := take()):
        made += 1
    return made, refused, time.monotonic() - began


@pytest.fixture(params=["redis", "own"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """What makes the rates of a model: over Redis, or in this process."""
    if request.param == "own":
        yield lambda **entries: CallRates(model(**entries))
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    with redis_client(server.url) as client:
        client.flushall()
        yield lambda **entries: CallRates(model(**entries), client, "test.calls:key")


def test_a_model_without_limits_takes_every_call(make: Make) -> None:
    rates = make()
    assert [rates.take(10_000) for _ in range(100)] == [0.0] * 100


def test_calls_of_ten_seconds_may_be_made_at_once(make: Make) -> None:
    rates = make(requests_per_minute=60)
    made, refused, seconds = until_refused(lambda: rates.take(1))
    assert 10 <= made <= 10 + seconds
    assert 0 < refused <= 1


def test_tokens_have_a_rate_of_their_own(make: Make) -> None:
    rates = make(tokens_per_minute=600)
    made, refused, seconds = until_refused(lambda: rates.take(60))
    assert 1 <= made <= (100 + 10 * seconds) / 60
    assert 0 < refused <= 6


def test_a_call_larger_than_its_rate_is_made_in_the_end(make: Make) -> None:
    """A call of more tokens than a minute has is let through when nothing else was made, and holds up others."""
    rates = make(tokens_per_minute=600)
    assert rates.take(5_000) == 0.0
    assert rates.take(1) > 100


def test_unused_tokens_are_given_back(make: Make) -> None:
    rates = make(tokens_per_minute=600)
    assert rates.take(1_000) == 0.0
    assert rates.take(50) > 0
    rates.give_back(990)
    assert rates.take(50) == 0.0


def test_a_pause_stops_every_call_of_the_key(make: Make) -> None:
    rates = make()
    assert rates.slow_down(60.0) == pytest.approx(60)
    assert 30 < rates.take(1) <= 60


def test_those_who_wait_come_back_one_after_another(make: Make) -> None:
    rates = make(requests_per_minute=2)
    rates.slow_down(90.0)
    places = [rates.take(1, in_line=True) for _ in range(9)]
    gaps = [later - before for before, later in pairwise(places)]
    assert places[0] > 90
    assert min(gaps) > 15  # one in 30 seconds
    assert max(places) <= 90 + 9 * 30


def test_a_pause_without_a_time_grows_and_counts_once(make: Make) -> None:
    rates = make()
    assert rates.slow_down(None) <= 1.0
    rates.slow_down(40.0)
    together = [rates.slow_down(None) for _ in range(64)]
    assert max(together) <= 40.0


def test_a_pause_can_be_ended(make: Make) -> None:
    rates = make()
    rates.slow_down(3_600.0)
    assert rates.take(1, in_line=True) > 1_000
    rates.resume()
    assert rates.take(1) == 0.0


def test_a_shorter_pause_does_not_end_a_longer_one(make: Make) -> None:
    """A later answer that asks for less time does not wake the key too early."""
    rates = make()
    rates.slow_down(60.0)
    rates.slow_down(2.0)
    assert rates.take(1) > 10


def test_pauses_without_a_time_double_while_they_follow_each_other() -> None:
    now = [1000.0]
    rates = CallRates(model(), clock=lambda: now[0])
    told = []
    for _ in range(8):
        told.append(rates.slow_down(None))
        now[0] += told[-1] + 0.1
    assert told == [1, 2, 4, 8, 16, 32, 60, 60]
    now[0] += 1000
    assert rates.slow_down(None) == 1


def test_workers_share_a_key_through_redis(redis_server: RedisServer) -> None:
    with redis_client(redis_server.url) as client:
        client.flushall()
        one, two = (CallRates(model(requests_per_minute=60), client, "test.calls:shared") for _ in range(2))
        with ThreadPoolExecutor(8) as threads:
            began = time.monotonic()
            taken = list(threads.map(lambda n: (one, two)[n % 2].take(1), range(40)))
            seconds = time.monotonic() - began
        assert 10 <= taken.count(0.0) <= 10 + seconds
        one.slow_down(60.0)
        assert two.take(1) > 30


def test_without_redis_a_worker_counts_by_itself(redis_server: RedisServer) -> None:
    client = redis_client("redis://127.0.0.1:1", 0.2)
    rates = CallRates(model(requests_per_minute=60), client, "test.calls:away", clock=lambda: 1000.0)
    taken = [rates.take(1) for _ in range(12)]
    assert taken[:10] == [0.0] * 10
    assert taken[-1] > 0


def test_a_key_has_one_name_wherever_it_is_used() -> None:
    key = SecretReference.parse("env:THE_KEY")
    same = {key_of(model(api_key=key, model=name)) for name in ("small", "large")}
    assert len(same) == 1
    assert key_of(model(api_key=SecretReference.parse("env:OTHER"))) not in same
    assert key_of(model(api_key=key, provider="other")) not in same


def test_a_worker_takes_its_rate_before_it_calls(tmp_path: Path) -> None:
    with providing() as provider:
        far = remote(tmp_path, "openai", provider.url, requests_per_minute=1)
        outcomes = [far.generate([ask(f"n {n}")])[0] for n in range(5)]
        assert [isinstance(outcome, Completion) for outcome in outcomes] == [True] + [False] * 4
        assert len(provider.heard) == 1
        late = [outcome.after for outcome in outcomes if isinstance(outcome, ProviderBusy)]
        assert len(late) == 4
        assert all(value is not None and value > 0 for value in late)
