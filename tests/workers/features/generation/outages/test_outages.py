"""Chains of models through outages: real workers, a real Redis, and a provider that fails in many ways."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from tests.services.eventually import eventually
from tests.services.redis import RedisServer
from tests.slow import slow_after_first
from tests.workers.features.generation.outages.provider import (
    BROKEN,
    BUSY,
    DOWN,
    HANG,
    OK,
    SLOW,
    Provider,
    catalogue,
    provider,
)
from tests.workers.features.generation.outages.small_bridge import SmallBridge
from tests.workers.runtime.bridge.records import generation
from tests.workers.serving import listening, tasks_of
from tests.workers.worker_process import worker

from headrace_schemas import Category
from headrace_schemas.job import Lane
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, JOBS, STEPS
from headrace_workers.features.generation.store.breakers import Breakers, TenantBreaker
from headrace_workers.features.generation.tables import BREAKERS
from headrace_workers.testing import make_echo_model

CHAIN = ("far", "echo")


@pytest.fixture
def far() -> Iterator[Provider]:
    with provider() as made:
        yield made


@pytest.fixture
def first_token() -> float:
    """Seconds in which an answer of `far` must begin. A test whose provider hangs gives fewer."""
    return 60.0


@pytest.fixture
def bridge(
    ledger: Ledger, tmp_path: Path, redis_server: RedisServer, far: Provider, first_token: float
) -> Iterator[SmallBridge]:
    """A bridge of a home with the models `far` and `echo`, and an empty Redis."""
    tasks_of(ledger, redis_server.url)._redis.flushall()
    catalogue(tmp_path, {"far": far.url}, {"careful": [*CHAIN]}, first_token=first_token, idle=60.0, open_calls=8)
    make_echo_model(tmp_path)
    with SmallBridge(ledger, tmp_path, redis_server.url) as made:
        yield made


@pytest.fixture
def workers(bridge: SmallBridge, tmp_path: Path, redis_server: RedisServer) -> Iterator[None]:
    """A worker for each model, which have begun to listen."""
    with worker(tmp_path, redis_server, "generate", model="far"), worker(tmp_path, redis_server, "generate"):
        listening(redis_server, "far", "echo")
        yield


def answers(bridge: SmallBridge, ids: list[str]):
    """The answers to all of these jobs, once they are there."""
    found = eventually(lambda: len(outputs := bridge.outputs(ids)) == len(ids) and outputs)
    return [found[job_id].answer for job_id in ids]


def time_passes(ledger: Ledger) -> None:
    """Let breakers be half open, for all and for tenants, and steps be due."""
    for model, health in ledger.of(Breakers).all().items():
        if any(own.open_until for own in health.breaker.tenants.values()):
            ledger.of(Breakers).follow(model, lambda breaker, _: replace(breaker, tenants=_half_open(breaker.tenants)))
    with writing(ledger.engine) as tx:
        tx.execute(update(BREAKERS).where(BREAKERS.c.open_until.is_not(None)).values(open_until=1))
        tx.execute(update(STEPS).where(STEPS.c.state.in_(("waiting", "parked"))).values(ready_at=1))


def _half_open(tenants: Mapping[str, TenantBreaker]) -> dict[str, TenantBreaker]:
    return {name: replace(own, open_until=own.open_until and 1) for name, own in tenants.items()}


def test_the_first_model_answers_while_it_can(bridge: SmallBridge, workers: None, far: Provider) -> None:
    """A chain of the catalogue, by its name: nobody else is asked, and the receipt names nobody else."""
    (answer,) = answers(bridge, bridge.send([generation(model="careful")]))
    assert (answer.model, answer.text, answer.provider) == ("far", "far away", "own")
    assert (answer.attempts, answer.because) == ((), None)


@pytest.mark.parametrize(
    ("fault", "first_token", "reason"),
    [
        (DOWN, 60.0, "answered 503"),
        (HANG, 1.0, "no answer began within 1 s"),
        pytest.param(BUSY, 60.0, "answered 429", marks=pytest.mark.slow),
    ],
)
def test_jobs_are_answered_by_the_next_model(
    bridge: SmallBridge, workers: None, far: Provider, ledger: Ledger, fault: str, reason: str
) -> None:
    far.fault = fault
    ids = bridge.send([generation(model=CHAIN, prompt=f"question {n}") for n in range(40)])
    found = answers(bridge, ids)
    assert {answer.model for answer in found} == {"echo"}
    tried = [answer.attempts[0] for answer in found]
    assert {(item.model, item.category) for item in tried} == {("far", Category.REROUTABLE)}
    assert any(reason in (item.reason or "") for item in tried)
    assert len(far.heard) <= 5 + 8 + 10  # until it opens, with what was under way, and a probe now and then
    assert ledger.of(Breakers).all()["far"].breaker.open_until is not None
    assert all(answer.because and answer.because.startswith("echo answered in place of far") for answer in found)


@pytest.mark.parametrize(("fault", "models"), slow_after_first([(DOWN, "far"), (HANG, CHAIN)]))
def test_64_open_calls_ask_a_dead_provider_no_more_than_80_times(
    bridge: SmallBridge, far: Provider, ledger: Ledger, tmp_path: Path, redis_server: RedisServer, fault: str,
    models: tuple[str, ...] | str,
) -> None:  # fmt: skip
    catalogue(tmp_path, {"far": far.url}, first_token=1.0, idle=1.0)
    far.fault = fault
    with worker(tmp_path, redis_server, "generate", model="far"), worker(tmp_path, redis_server, "generate"):
        listening(redis_server, "far", "echo")
        bridge.send([generation(model=models, prompt=f"question {n}") for n in range(150)])
        eventually(lambda: "far" in (known := ledger.of(Breakers).all()) and known["far"].breaker.open_until)
        asked = eventually(lambda: quiet_calls(far, ledger))
        time_passes(ledger)

        def is_probed() -> bool:
            bridge.send([generation(model=models, prompt="one more")])
            return len(far.heard) > asked

        eventually(is_probed)
        eventually(lambda: quiet_calls(far, ledger))
    assert len(far.heard) <= 80


def quiet_calls(far: Provider, ledger: Ledger) -> int:
    """How many calls there were when none is under way any more; 0 while one is."""
    busy = ledger.read(select(func.count()).where(CLAIMS.c.queue == "model.far", CLAIMS.c.started_at.is_not(None)))
    return 0 if busy[0][0] else len(far.heard)


def test_a_model_that_answers_500_once_is_asked_once_more(
    bridge: SmallBridge, workers: None, far: Provider, ledger: Ledger
) -> None:
    far.fault = BROKEN
    (answer,) = answers(bridge, bridge.send([generation(model=CHAIN)]))
    assert [(attempt.model, attempt.category) for attempt in answer.attempts] == [
        ("far", Category.REROUTABLE), ("far", None),
    ]  # fmt: skip
    assert len(far.heard) == 2
    assert "far" in ledger.of(Breakers).all()


def test_a_slow_model_does_not_eat_the_deadline(
    bridge: SmallBridge, workers: None, far: Provider, ledger: Ledger
) -> None:
    far.fault = SLOW
    (new,) = bridge.made([generation(model=CHAIN)])
    near = ledger.now() + 8_000
    ledger.ingest([replace(new, steps=tuple(step._replace(deadline=near) for step in new.steps))])
    eventually(lambda: far.heard)
    with writing(ledger.engine) as tx:  # on a busy machine the other half may be too short
        tx.execute(update(STEPS).values(deadline=near + 600_000))
    (answer,) = answers(bridge, [new.id])
    assert answer.model == "echo"
    assert "its share of the deadline" in (answer.attempts[0].reason or "")


def test_a_worker_that_is_killed_never_begins_the_chain_anew(
    bridge: SmallBridge, far: Provider, ledger: Ledger, tmp_path: Path, redis_server: RedisServer
) -> None:
    far.fault = DOWN
    with worker(tmp_path, redis_server, "generate", model="far"):
        with worker(tmp_path, redis_server, "generate") as second:
            listening(redis_server, "far", "echo")
            (job_id,) = bridge.send([generation(model=CHAIN, prompt="%%sleep:2%% on")])
            busy = select(func.count()).where(CLAIMS.c.queue == "model.echo", CLAIMS.c.started_at.is_not(None))
            eventually(lambda: ledger.read(busy)[0][0] == 1)
            second.kill()
        with worker(tmp_path, redis_server, "generate"):
            (answer,) = answers(bridge, [job_id])
    assert len(far.heard) == 1
    assert [(attempt.model, attempt.category) for attempt in answer.attempts] == [
        ("far", Category.REROUTABLE), ("echo", None),
    ]  # fmt: skip


@pytest.mark.slow
def test_jobs_wait_while_the_breakers_of_all_their_models_are_open(
    bridge: SmallBridge, far: Provider, ledger: Ledger, tmp_path: Path, redis_server: RedisServer
) -> None:
    far.fault = DOWN
    with worker(tmp_path, redis_server, "generate", model="far"):
        ids = bridge.send([generation(model="far", prompt=f"question {n}") for n in range(20)])
        eventually(lambda: "far" in ledger.of(Breakers).all() and ledger.of(Breakers).all()["far"].breaker.open_until)
        asked = eventually(lambda: quiet_calls(far, ledger))  # some were under way when it opened
        time_passes(ledger)
        eventually(lambda: len(far.heard) == asked + 1)
        far.fault = OK

        def all_answered() -> bool:
            time_passes(ledger)
            return len(bridge.outputs(ids)) == len(ids)

        eventually(all_answered)
    assert {row.state for row in ledger.read(select(JOBS.c.state))} == {"active"}  # none died


def test_batch_work_waits_for_its_model(bridge: SmallBridge, workers: None, far: Provider, ledger: Ledger) -> None:
    far.fault = DOWN
    ids = bridge.send([generation(model=CHAIN, lane=Lane.BATCH, prompt=f"question {n}") for n in range(40)])
    eventually(lambda: "far" in ledger.of(Breakers).all() and ledger.of(Breakers).all()["far"].breaker.open_until)
    far.fault = OK

    def all_answered() -> bool:
        time_passes(ledger)
        return len(bridge.outputs(ids)) == len(ids)

    eventually(all_answered)
    models = [answer.model for answer in answers(bridge, ids)]
    assert models.count("echo") <= 5 + 8
    assert models.count("far") >= 25


@pytest.mark.slow
def test_a_chain_goes_on_when_redis_is_gone_for_a_while(
    bridge: SmallBridge, workers: None, far: Provider, redis_server: RedisServer
) -> None:
    far.fault = DOWN
    ids = bridge.send([generation(model=CHAIN, prompt=f"%%sleep:0.1%% {n}") for n in range(30)])
    eventually(lambda: len(bridge.outputs(ids)) > 3)
    redis_server.kill()
    redis_server.restart()
    assert {answer.model for answer in answers(bridge, ids)} == {"echo"}
