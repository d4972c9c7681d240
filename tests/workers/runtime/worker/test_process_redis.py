"""What a worker process does when Redis dies, is silent, forgets, or serves somebody else, too."""

import pytest
from sqlalchemy import select
from tests.services.eventually import eventually
from tests.services.proxy import proxied
from tests.workers.ledger_jobs import sqlite_ledger
from tests.workers.runtime.bridge.records import evaluation, generation
from tests.workers.serving import NAMES, is_done, send, served, tasks_of
from tests.workers.worker_process import worker

from headrace_workers.core.redis import RedisNames
from headrace_workers.core.redis import live_queues as listened_to
from headrace_workers.core.tables import CLAIMS, STEPS

ROLES = pytest.mark.parametrize(
    ("role", "job", "concurrency"),
    [("generate", generation, None), ("judge", evaluation, None), ("judge", evaluation, 2)],
    ids=["threads", "solo", "prefork"],
)

IMPATIENT = ("-m", "tests.workers.impatient_program")


def loaded(process, times=1):
    """Whether it runs with what it loaded at first."""
    eventually(lambda: process.log.count("ready for work") >= times)  # the last of several may still be on its way
    return process.running and process.log.count("ready for work") == times


@ROLES
def test_a_worker_serves_again_after_redis_was_killed(role, job, concurrency, ledger, tasks, redis_server, tmp_path):
    with worker(tmp_path, redis_server, role, concurrency=concurrency) as process:
        eventually(served(ledger, tasks, job()))
        for _ in range(3):
            redis_server.kill()
            redis_server.restart()
            eventually(served(ledger, tasks, job()))
        tasks._redis.flushall()
        eventually(served(ledger, tasks, job()))
        assert loaded(process, concurrency or 1)


def test_a_worker_leaves_a_connection_that_is_half_open(ledger, tasks, redis_server, tmp_path):
    with (
        proxied(redis_server.port) as proxy,
        worker(
            tmp_path, redis_server, "judge", program=IMPATIENT, HEADRACE_REDIS=f"redis://{proxy.address}/0"
        ) as process,
    ):
        eventually(served(ledger, tasks, evaluation()))
        proxy.swallow("down")
        eventually(lambda: "waiting for Redis" in process.log)
        proxy.heal()
        eventually(served(ledger, tasks, evaluation()))
        assert loaded(process)


def test_a_claim_of_another_ledger_is_refused(ledger, tasks, redis_server, tmp_path):
    """Two deployments share all names in Redis by mistake: neither runs the other's numbers, and both go on."""
    (tmp_path / "other").mkdir()
    with sqlite_ledger(tmp_path / "other") as other, worker(tmp_path, redis_server, "judge") as process:
        theirs = tasks_of(other, redis_server.url)
        foreign = send(other, theirs, evaluation(), "judge")
        ours = send(ledger, tasks, evaluation(), "judge")
        eventually(is_done(ledger, ours))
        assert "refused a claim of another ledger" in process.log
        ((trouble,), theirs_) = ledger.open_incidents(), other.open_incidents()
        assert (trouble.subject, "two deployments share this Redis" in trouble.reason, theirs_) == ("worker", True, [])
        assert not is_done(other, foreign)()
        assert [claim.started_at for claim in claims(other)] == [None]
        # In its own hands it is done as if nothing had been.
        other.release([claim.id for claim in claims(other)])
        ((attempts, crashes),) = other.read(select(STEPS.c.attempts, STEPS.c.crashes))
        assert (attempts, crashes) == (0, 0)


def test_deployments_with_prefixes_of_their_own_share_one_redis(ledger, redis_server, tasks, tmp_path):
    names = RedisNames("another.")
    theirs = tasks_of(ledger, redis_server.url, names)
    for _ in range(3):
        send(ledger, theirs, evaluation(), "judge")
    with worker(tmp_path, redis_server, "judge") as process:
        eventually(is_done(ledger, send(ledger, tasks, evaluation(), "judge")))
        assert theirs.waiting([("judge", 0)]) == {("judge", 0): 3}
        eventually(lambda: listened_to(tasks._redis, NAMES, ["judge"]) == {"judge"})
        assert listened_to(tasks._redis, names, ["judge"]) == frozenset()
        assert "another ledger" not in process.log


def claims(ledger):
    return ledger.read(select(CLAIMS.c.id, CLAIMS.c.started_at))
