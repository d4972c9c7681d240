"""A Celery worker that does nothing but say that it was called: what a hand-over over Redis costs at least."""

import os
from typing import Any

import redis
from celery import Celery

TASK, QUEUE, ANSWERS = "bench.called", "bench-handover", "bench-answers"

_URL = os.environ.get("BENCH_REDIS", "")
app = Celery("bench", broker=_URL, set_as_current=False)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=False,
    task_default_queue=QUEUE,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)
_client: Any = redis.Redis.from_url(_URL) if _URL else None


@app.task(name=TASK)  # type: ignore[untyped-decorator]
def called(number: int) -> None:
    """Answer with the number."""
    _client.rpush(ANSWERS, number)
