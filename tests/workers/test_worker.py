"""A real worker process: what it does with its queues, and how it stops and comes back."""

import os
from contextlib import suppress

import pytest
import redis
from sqlalchemy import select
from tests.services.eventually import eventually
from tests.workers.bridge.records import evaluation, generation
from tests.workers.ledger_jobs import claim_one, dispatch, sqlite_ledger, take_in
from tests.workers.worker_process import worker

from headrace_schemas.job import Lane
from headrace_workers.away import AWAY
from headrace_workers.celery_app import TASK, create_app, queue_of
from headrace_workers.ledger.tables import CLAIMS, JOBS, STEPS
from headrace_workers.presence import served as listened_to
from headrace_workers.redis_names import PRIORITIES, RedisNames
from headrace_workers.taskqueue import TaskQueue

NAMES = RedisNames("headrace.")


@pytest.fixture
def ledger(tmp_path):
    """An empty ledger."""
    with sqlite_ledger(tmp_path) as ledger:
        yield ledger


@pytest.fixture
def tasks(redis_server, ledger):
    """The task queue over an empty Redis."""
    client = redis.Redis.from_url(redis_server.url)
    client.flushall()
    yield TaskQueue(create_app(redis_server.url), client, NAMES, ledger.identity)
    client.close()


def send(ledger, tasks, job, queue):
    """Hand one job to the workers of a queue; its id."""
    (job_id,) = take_in(ledger, [job])
    tasks.send(claim_one(ledger, queue))
    return job_id


def is_done(ledger, job_id):
    """A condition: the job's first step was done."""
    query = select(STEPS.c.state).where(STEPS.c.job_id == job_id, STEPS.c.stage.in_(("generate", "judge")))
    return lambda: "done" in [row.state for row in ledger.read(query)]


def served(ledger, tasks, job):
    """A condition: this new job was done. Meanwhile work goes out as a bridge sends it: again when its lease ends,
    since a message may die with Redis, or on its way to a worker whose connection has just died."""
    (job_id,) = take_in(ledger, [job])
    sender = dispatch(ledger, tasks, lease_ms=2_000)
    done = is_done(ledger, job_id)

    def look():
        ledger.reap(99)
        with suppress(*AWAY):  # a connection of our own may be the dead one
            sender.once()
        return done()

    return look


class Evil:
    """What runs a command wherever it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_one_worker_of_all_roles_takes_jobs_to_their_end(ledger, tasks, redis_server, tmp_path):
    """Each message names a claim; what follows from it and needs no model is done without another."""
    ids = take_in(ledger, [generation(prompt=str(n)) for n in range(5)] + [evaluation()])
    sender = dispatch(ledger, tasks, group_size=4)

    def ended():
        sender.once()
        return ledger.active_jobs() == 0

    with worker(tmp_path, redis_server, "all"):
        eventually(ended, 60)
    assert {r.id: r.terminal_type for r in ledger.read(select(JOBS.c.id, JOBS.c.terminal_type))} == dict.fromkeys(
        ids, "headrace.result.v1"
    )


@pytest.mark.parametrize(
    ("role", "queue", "job"),
    [("generate", "model.echo", generation), ("judge", "judge", evaluation)],
    ids=["threads", "solo"],
)
def test_a_worker_serves_again_after_redis_was_killed(role, queue, job, ledger, tasks, redis_server, tmp_path):
    """It reconnects to a Redis that has forgotten everything, again and again, and takes what is sent then."""
    with worker(tmp_path, redis_server, role) as process:
        eventually(served(ledger, tasks, job()), 60)
        for _ in range(2):
            redis_server.kill()
            redis_server.restart()
            eventually(served(ledger, tasks, job()), 60)
        tasks._redis.flushall()
        eventually(served(ledger, tasks, job()), 60)
        assert process.running


def test_a_worker_that_ran_while_redis_died_serves_again(ledger, tasks, redis_server, tmp_path):
    """What it was running is completed without Redis, and afterwards it is not silent."""
    with worker(tmp_path, redis_server, "generate", HEADRACE_INTER_THREADS="1") as process:
        slow = send(ledger, tasks, generation(prompt="%%sleep:1.5%%"), "model.echo")
        eventually(lambda: started(ledger), 60)
        redis_server.kill()
        redis_server.restart()
        eventually(is_done(ledger, slow), 60)
        for _ in range(3):
            eventually(served(ledger, tasks, generation()), 60)
        assert process.running


@pytest.mark.parametrize(
    ("role", "queue", "job"),
    [("generate", "model.echo", generation), ("judge", "judge", evaluation)],
    ids=["threads", "solo"],
)
def test_a_pickled_message_is_never_read(role, queue, job, ledger, tasks, redis_server, tmp_path):
    """Whoever can write into Redis cannot run code: the message is dropped, and the worker goes on."""
    trap = tmp_path / "trap"
    app = create_app(redis_server.url)
    for line, priority in PRIORITIES.items():
        app.send_task(TASK, args=(Evil(trap),), queue=queue_of(NAMES, queue), serializer="pickle", priority=priority)
        assert tasks._redis.llen(NAMES.line(queue, line)) == 1
    with worker(tmp_path, redis_server, role) as process:
        eventually(is_done(ledger, send(ledger, tasks, job(), queue)), 60)
        assert process.running
        eventually(lambda: not any(tasks._redis.llen(NAMES.line(queue, line)) for line in PRIORITIES), 60)
        assert not trap.exists()


def started(ledger):
    """Whether a worker has begun a claim."""
    return any(row.started_at for row in ledger.read(select(CLAIMS.c.started_at)))


def test_a_worker_shows_which_queues_it_listens_to(ledger, tasks, redis_server, tmp_path):
    """So that whoever looks can tell what nobody does; several processes of one worker are one sign of life."""
    with worker(tmp_path, redis_server, "moderate", "judge", concurrency=2) as process:
        eventually(
            lambda: listened_to(tasks._redis, NAMES, ["model.echo", "moderate", "judge"]) == {"moderate", "judge"}, 60
        )
        eventually(is_done(ledger, send(ledger, tasks, evaluation(), "judge")), 60)
        assert process.running


def test_a_stop_finishes_the_group_in_hand(ledger, tasks, redis_server, tmp_path):
    """SIGTERM during a run: the answer is written, nothing stays leased, and what waits is left for others."""
    with worker(tmp_path, redis_server, "generate", HEADRACE_INTER_THREADS="1") as process:
        slow = send(ledger, tasks, generation(prompt="%%sleep:2%%"), "model.echo")
        eventually(lambda: started(ledger), 60)
        process.terminate()
        assert process.wait(60) == 0
    assert is_done(ledger, slow)()
    assert ledger.overview().claims == 0


def test_interactive_work_does_not_wait_for_a_batch_that_runs(ledger, tasks, redis_server, tmp_path):
    """A worker whose every slot is taken by batch work has one more for what cannot wait."""
    with worker(tmp_path, redis_server, "generate", HEADRACE_INTER_THREADS="1"):
        (slow,) = take_in(ledger, [generation(prompt="%%sleep:30%%", lane=Lane.BATCH)])
        tasks.send(claim_one(ledger, "model.echo", lane=1))
        eventually(lambda: started(ledger), 60)
        for _ in range(3):
            eventually(is_done(ledger, send(ledger, tasks, generation(), "model.echo")), 20)
        assert not is_done(ledger, slow)()


def test_a_model_that_is_not_there_is_an_error_at_once(ledger, redis_server, tmp_path):
    """The worker ends with a message that names the model, and does not take work that it cannot do."""
    (tmp_path / "models").mkdir()
    with worker(tmp_path, redis_server, "generate", HEADRACE_HOME=str(tmp_path / "elsewhere")) as process:
        assert process.wait(60) != 0
        assert "echo" in process.log
