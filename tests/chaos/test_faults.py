"""Processes and services die, stall and come back in mid-run; afterwards the history is held to the rules."""

import signal
import time

import pytest
import redis as redis_client
from tests.chaos.conftest import Stack
from tests.chaos.deployment import ROLES, Deployment
from tests.chaos.history import query
from tests.chaos.mid_run import JUDGED, LONG, history_of, publish, under_way, verdict
from tests.chaos.stacks import EMBEDDED, PRODUCTION

pytestmark = pytest.mark.chaos
# A moment of a few milliseconds is to be caught, which a busy machine may miss: only `make chaos` runs these.
luck = pytest.mark.luck
# Over the embedded services, too, but among the slow tests.
once = pytest.mark.parametrize("stack", [PRODUCTION, pytest.param(EMBEDDED, marks=pytest.mark.slow)], indirect=True)


def test_the_bridge_is_killed(deployment):
    """SIGKILL to the only bridge in mid-run: the next one goes on where the ledger stands."""
    before = deployment.ended()
    ids = publish(deployment, 60, seconds=LONG)
    deployment.catch_at_work("generate")
    deployment.kill("bridge")
    assert deployment.ended() < before + len(ids)
    deployment.signal("generate", signal.SIGCONT)
    verdict(deployment, ids)


@pytest.mark.parametrize("role", ["generate", *(pytest.param(role, marks=luck) for role in ("moderate", "judge"))])
def test_a_worker_is_killed(deployment, role):
    ids = publish(deployment, 60, seconds=LONG) if role == "generate" else publish(deployment)
    deployment.catch_at_work(role)
    deployment.kill(role)
    verdict(deployment, ids)


@once
def test_redis_is_wiped_and_killed(stack, deployment):
    before = deployment.ended()
    ids = publish(deployment)
    under_way(deployment, before)
    with redis_client.Redis.from_url(stack.redis.url) as client:
        client.flushall()
    stack.redis.kill()
    pids = {name: child.process.pid for name, child in deployment.children.items()}
    stack.redis.restart()
    verdict(deployment, ids)
    assert {name: child.process.pid for name, child in deployment.children.items()} == pids, (
        "somebody had to be restarted"
    )
    verdict(deployment, publish(deployment, 40))


@luck
def test_redis_dies_with_a_message_on_its_way(stack, deployment):
    ids = catch_a_message(stack, deployment)
    stack.redis.kill()
    deployment.signal("judge", signal.SIGCONT)
    time.sleep(0.5)
    stack.redis.restart()
    pid = deployment.children["judge"].process.pid
    verdict(deployment, ids)
    verdict(deployment, publish(deployment, 20))
    assert deployment.children["judge"].process.pid == pid


def catch_a_message(stack: Stack, deployment: Deployment) -> list[str]:
    """SIGSTOP the judge so that Redis has sent it a message that it has not read; the jobs published for that.

    It asks Redis anew each second, and a message that comes after that second stays in the queue: then once more.
    """
    ids = publish(deployment, 10)
    waiting = "SELECT count(*) FROM claims WHERE stage = 'judge' AND started_at IS NULL"
    with deployment.producer() as producer, redis_client.Redis.from_url(stack.redis.url) as client:
        for _ in range(10):
            deployment.wait_quiet(ids)
            deployment.signal("judge", signal.SIGSTOP)
            ids.append(producer.evaluate(input="a river", output="water", criteria=JUDGED))
            producer.flush()
            deployment.wait_until(lambda: query(deployment.ledger, waiting)[0] != [(0,)], "the judge is sent work")
            time.sleep(0.1)  # from the claim to the queue
            if query(deployment.ledger, waiting)[0] != [(0,)] and client.llen("headrace.judge") == 0:
                return ids
            deployment.signal("judge", signal.SIGCONT)
    raise AssertionError("no message was caught on its way")


@pytest.mark.slow
def test_the_broker_is_killed(stack, deployment):
    if not stack.durable:
        pytest.skip("the embedded broker keeps its log in memory")
    before = deployment.ended()
    ids = publish(deployment)
    under_way(deployment, before)
    stack.broker.kill()
    stack.broker.restart()
    verdict(deployment, ids)
    verdict(deployment, publish(deployment, 40))


@pytest.mark.slow
def test_the_database_is_killed(stack, deployment):
    """SIGKILL to PostgreSQL and a restart: all processes wait for it and go on."""
    if stack.postgres is None:
        pytest.skip("SQLite has no server")
    before = deployment.ended()
    ids = publish(deployment)
    under_way(deployment, before)
    stack.postgres.kill()
    stack.postgres.restart()
    verdict(deployment, ids)
    verdict(deployment, publish(deployment, 40))


@pytest.mark.slow
def test_everything_is_told_to_stop(deployment):
    before = deployment.ended()
    ids = publish(deployment, 120, seconds=LONG)
    deployment.catch_at_work("generate")
    codes = deployment.terminate()
    assert set(codes.values()) == {0}, codes
    assert deployment.held() == (0, 0)
    assert deployment.ended() < before + len(ids)
    verdict(deployment, ids)


@once
def test_a_worker_is_paused_past_its_lease(deployment):
    ids = publish(deployment, 60, seconds=LONG)
    claim = deployment.catch_at_work("generate")
    deployment.start("generate-2")
    verdict(deployment, ids)
    told = history_of(deployment, ids)
    log = deployment.children["generate"].log
    size = log.stat().st_size
    deployment.signal("generate", signal.SIGCONT)
    deployment.wait_until(
        lambda: f"claim={claim} " in log.read_text()[size:], "the worker says that its lease was lost"
    )
    deployment.retire("generate-2")
    verdict(deployment, publish(deployment, 40))
    assert history_of(deployment, ids) == told


@pytest.mark.slow
@once
def test_two_bridges_share_the_work(deployment):
    deployment.start("bridge-2")
    first = publish(deployment, 100)
    verdict(deployment, first)
    before = deployment.ended()
    ids = publish(deployment)
    under_way(deployment, before)
    deployment.kill("bridge")
    verdict(deployment, ids)
    deployment.retire("bridge-2")
    verdict(deployment, publish(deployment, 40))


def test_the_stack_is_what_it_says(stack: Stack):
    assert all(child.running for child in stack.deployment.children.values())
    assert set(stack.deployment.children) == set(ROLES)
