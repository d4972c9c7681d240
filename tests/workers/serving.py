"""Sending work to worker processes as a bridge does, and seeing what became of it."""

from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import select
from tests.services.eventually import eventually
from tests.services.redis import RedisServer
from tests.workers.ledger_jobs import claim_one, dispatch, take_in

from headrace_schemas import EvaluationJob, GenerationJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.outage import OUTAGE_ERRORS
from headrace_workers.core.redis import RedisNames, live_queues, redis_client
from headrace_workers.core.tables import CLAIMS, STEPS
from headrace_workers.runtime.wire.taskqueue import TaskQueue

NAMES = RedisNames("headrace.")


def tasks_of(ledger: Ledger, redis_url: str, names: RedisNames = NAMES) -> TaskQueue:
    return TaskQueue(redis_client(redis_url), names, ledger.identity)


def listening(redis_server: RedisServer, *models: str) -> None:
    """Wait until the workers of these models listen. A bridge gives a step of a chain to the next model where nobody
    does for some seconds.
    """
    queues = [f"model.{model}" for model in models]
    eventually(lambda: len(live_queues(redis_client(redis_server.url), NAMES, queues) or ()) == len(models))


def send(ledger: Ledger, tasks: TaskQueue, job: GenerationJob | EvaluationJob, queue: str) -> str:
    """Hand one job to the workers of a queue; its id."""
    (job_id,) = take_in(ledger, [job])
    claim = claim_one(ledger, queue)
    assert claim is not None
    tasks.send(claim)
    return job_id


def is_done(ledger: Ledger, job_id: str) -> Callable[[], bool]:
    """A condition: the job's first step was done."""
    query = select(STEPS.c.state).where(STEPS.c.job_id == job_id, STEPS.c.stage.in_(("generate", "rubric", "judge")))
    return lambda: "done" in [row.state for row in ledger.read(query)]


def served(ledger: Ledger, tasks: TaskQueue, job: GenerationJob | EvaluationJob) -> Callable[[], bool]:
    """A condition: this new job was done. Meanwhile work goes out as a bridge sends it: again when its lease ends,
    since a message may die with Redis, or on its way to a worker whose connection has just died."""
    (job_id,) = take_in(ledger, [job])
    sender = dispatch(ledger, tasks, lease_ms=2_000)
    done = is_done(ledger, job_id)

    def look() -> bool:
        ledger.reap(99)
        with suppress(*OUTAGE_ERRORS):  # a connection of our own may be the dead one
            sender.once()
        return done()

    return look


def started(ledger: Ledger) -> bool:
    """Whether a worker has begun a claim."""
    return any(row.started_at for row in ledger.read(select(CLAIMS.c.started_at)))
