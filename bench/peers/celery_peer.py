"""Bare Celery: a task that does nothing. `main` enqueues it and prints how long that took."""

import json
import os
import sys
import time

from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_REDIS"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=False,
    task_serializer="json",
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
)


@app.task(name="bench.noop")  # type: ignore[untyped-decorator]
def noop(_number: int) -> None:
    """Do nothing."""


def enqueue(count: int) -> dict[str, float]:
    """When it began, by the machine's monotonic clock, and the seconds for `count` tasks on one connection."""
    noop.delay(-1)  # the connection is not what is measured
    begun = time.monotonic()
    for number in range(count):
        noop.delay(number)
    return {"begun": begun, "seconds": time.monotonic() - begun}


def main(arguments: list[str]) -> None:
    """`enqueue N`."""
    json.dump(enqueue(int(arguments[1])), sys.stdout)
