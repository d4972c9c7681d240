"""A real worker process: what it does with its queues, and how it stops and comes back."""

import os

import pytest
from sqlalchemy import select
from tests.services.eventually import eventually
from tests.workers.ledger_jobs import claim_one, dispatch, take_in
from tests.workers.runtime.bridge.records import evaluation, generation
from tests.workers.serving import NAMES, is_done, send, served, started
from tests.workers.worker_process import worker

from headrace_schemas.job import Lane
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.redis import PRIORITIES, live_workers
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.runtime.wire.celery_app import create_app, queue_of
from headrace_workers.runtime.wire.taskqueue import TASK


class Evil:
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
        eventually(ended)
        alive = live_workers(tasks._redis, NAMES)
    assert {alive["model.echo"][0] > 0, *map(len, alive.values())} == {1}
    assert alive["deliver"][0] > alive["judge"][0]  # deliveries wait for others' servers, side by side
    assert {r.id: r.terminal_type for r in ledger.read(select(JOBS.c.id, JOBS.c.terminal_type))} == dict.fromkeys(
        ids, "headrace.result.v1"
    )


@pytest.mark.parametrize(
    ("role", "queue", "job"),
    [("generate", "model.echo", generation), ("judge", "judge", evaluation)],
    ids=["threads", "solo"],
)
def test_a_pickled_message_is_never_read(role, queue, job, ledger, tasks, redis_server, tmp_path):
    trap = tmp_path / "trap"
    app = create_app(redis_server.url)
    for line, priority in PRIORITIES.items():
        app.send_task(TASK, args=(Evil(trap),), queue=queue_of(NAMES, queue), serializer="pickle", priority=priority)
        assert tasks._redis.llen(NAMES.line(queue, line)) == 1
    with worker(tmp_path, redis_server, role) as process:
        eventually(is_done(ledger, send(ledger, tasks, job(), queue)))
        assert process.running
        eventually(lambda: not any(tasks._redis.llen(NAMES.line(queue, line)) for line in PRIORITIES))
        assert not trap.exists()


def test_a_stop_finishes_the_group_in_hand(ledger, tasks, redis_server, tmp_path):
    with worker(tmp_path, redis_server, "generate", HEADRACE_INTER_THREADS="1") as process:
        slow = send(ledger, tasks, generation(prompt="%%sleep:2%%"), "model.echo")
        eventually(lambda: started(ledger))
        process.terminate()
        assert process.wait(120) == 0
    assert is_done(ledger, slow)()
    assert ledger.overview().claims == 0


def test_interactive_work_does_not_wait_for_a_batch_that_runs(ledger, tasks, redis_server, tmp_path):
    with worker(tmp_path, redis_server, "generate", HEADRACE_INTER_THREADS="1"):
        (slow,) = take_in(ledger, [generation(prompt="%%sleep:300%%", lane=Lane.BATCH)])
        tasks.send(claim_one(ledger, "model.echo", lane=1))
        eventually(lambda: started(ledger))
        for _ in range(3):
            eventually(is_done(ledger, send(ledger, tasks, generation(), "model.echo")))
        assert not is_done(ledger, slow)()


def test_a_job_that_is_cancelled_leaves_its_slot_to_others(ledger, tasks, redis_server, tmp_path):
    """While it is answered: a worker with one slot answers the next long before this one would have ended."""
    with worker(tmp_path, redis_server, "generate", HEADRACE_INTER_THREADS="1"):
        (slow,) = take_in(ledger, [generation(prompt="%%sleep:100000%%", lane=Lane.BATCH)])
        tasks.send(claim_one(ledger, "model.echo", lane=1))
        eventually(lambda: started(ledger))
        ledger.cancel(Cancellation(slow, "default", "not wanted any more"))
        (next_one,) = take_in(ledger, [generation(prompt="next", lane=Lane.BATCH)])
        tasks.send(claim_one(ledger, "model.echo", lane=1))
        eventually(is_done(ledger, next_one))
    ((said,),) = ledger.read(select(JOBS.c.terminal_type).where(JOBS.c.id == slow))
    assert said == "headrace.job.cancelled.v1"


def test_a_model_that_is_not_there_is_an_error_at_once(ledger, redis_server, tmp_path):
    (tmp_path / "models").mkdir()
    with worker(tmp_path, redis_server, "generate", HEADRACE_HOME=str(tmp_path / "elsewhere")) as process:
        assert process.wait(120) != 0
        assert "echo" in process.log


@pytest.mark.parametrize("concurrency", [None, 2], ids=["solo", "prefork"])
def test_a_stop_while_the_ledger_is_away_ends_the_worker(ledger, tasks, redis_server, tmp_path, concurrency):
    url = f"sqlite:///{tmp_path / 'ledger.db'}?timeout=0.2"
    with worker(
        tmp_path, redis_server, "judge", concurrency=concurrency, HEADRACE_LEDGER=url, HEADRACE_LEASE="1"
    ) as process:
        eventually(served(ledger, tasks, evaluation()))
        take_in(ledger, [evaluation()])
        claim = claim_one(ledger, "judge")
        with writing(ledger.engine):  # nobody else can
            tasks.send(claim)
            eventually(lambda: "waiting for the ledger" in process.log)
            process.terminate()
            assert process.wait(300) == 0
