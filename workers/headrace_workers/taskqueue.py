"""Claims on their way to workers, in Celery over Redis. The message carries the claim's id and nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from kombu.exceptions import OperationalError

from headrace_schemas.errors import Unavailable
from headrace_workers.celery_app import PRIORITIES, TASK, Line, queue_of, redis_key
from headrace_workers.ledger.claim import Claim
from headrace_workers.ledger.ingest import INTERACTIVE


class TaskQueue:
    """Sends claims, and tells how many wait. Redis holds no truth: what it loses is sent again when its lease ends.

    Thread-safe. Unavailable when Redis does not answer.
    """

    def __init__(self, app: Any, client: redis.Redis) -> None:
        self._app = app
        self._redis = client

    def waiting(self, queues: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """How many claims wait in each queue and lane."""
        lists = [(place, redis_key(place[0], line)) for place in queues for line in _lines(place[1])]
        pipeline = self._redis.pipeline(transaction=False)
        for _, key in lists:
            pipeline.llen(key)
        counts = dict.fromkeys(queues, 0)
        with _translated():
            for (place, _), count in zip(lists, pipeline.execute(), strict=True):
                counts[place] += count
        return counts

    def send(self, claim: Claim, *, ahead: bool = False) -> None:
        """Put a claim into its queue: into its lane, or ahead of both."""
        line = "ahead" if ahead else _lines(claim.lane)[0]
        with _translated():
            self._app.send_task(
                TASK,
                args=(claim.id,),
                queue=queue_of(claim.queue),
                priority=PRIORITIES[line],
                ignore_result=True,
                retry=False,
            )


def _lines(lane: int) -> tuple[Line, ...]:
    """Where a lane's claims may wait; its own first."""
    return ("interactive",) if lane == INTERACTIVE else ("batch", "ahead")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OperationalError, OSError) as error:
        raise Unavailable(f"Redis did not answer: {error or type(error).__name__}") from error
