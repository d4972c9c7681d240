"""Claims on their way to workers, in Celery over Redis. The message carries the claim's id and nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from kombu.exceptions import OperationalError

from headrace_schemas.errors import Unavailable
from headrace_workers.celery_app import PRIORITIES, TASK, queue_of, redis_key
from headrace_workers.ledger.claim import Claim
from headrace_workers.ledger.ingest import BATCH, INTERACTIVE


class TaskQueue:
    """Sends claims, and tells how many wait. Redis holds no truth: what it loses is sent again when its lease ends.

    Thread-safe. Unavailable when Redis does not answer.
    """

    def __init__(self, app: Any, client: redis.Redis) -> None:
        self._app = app
        self._redis = client

    def waiting(self, queues: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """How many claims wait in each queue and lane."""
        pipeline = self._redis.pipeline(transaction=False)
        for queue, lane in queues:
            pipeline.llen(redis_key(queue, lane))
        with _translated():
            return dict(zip(queues, pipeline.execute(), strict=True))

    def send(self, claim: Claim, *, urgent: bool) -> None:
        """Put a claim into its queue; urgent ones overtake."""
        with _translated():
            self._app.send_task(
                TASK,
                args=(claim.id,),
                queue=queue_of(claim.queue),
                priority=PRIORITIES[INTERACTIVE if urgent else BATCH],
                ignore_result=True,
                retry=False,
            )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OperationalError, OSError) as error:
        raise Unavailable(f"Redis did not answer: {error or type(error).__name__}") from error
