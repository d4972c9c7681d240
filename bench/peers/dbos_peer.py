"""DBOS on PostgreSQL: a workflow of three steps that do nothing. `schema`, `enqueue N` and `work`."""

import json
import os
import sys
import threading
import time

from dbos import DBOS, DBOSClient, DBOSConfig

_QUEUE, _WORKFLOW = "bench", "three_steps"
_BATCH = 500  # workflows that are enqueued in one transaction
_SIDE_BY_SIDE = 20  # workflows in one process: 10 and 50 are no faster
_POLL_SECONDS = 0.1
_URL = os.environ["BENCH_POSTGRES"]


@DBOS.step()
def noop(number: int) -> int:
    """Do nothing."""
    return number


@DBOS.workflow(name=_WORKFLOW)
def three_steps(number: int) -> int:
    """As many steps as an echo job has."""
    return noop(noop(noop(number)))


def enqueue(count: int) -> float:
    """Seconds to enqueue `count` workflows, many in a transaction."""
    import sqlalchemy

    client = DBOSClient(system_database_url=_URL)
    engine = sqlalchemy.create_engine(_URL.replace("postgresql://", "postgresql+psycopg://"))
    begun = time.perf_counter()
    for first in range(0, count, _BATCH):
        with engine.begin() as connection:
            for number in range(first, min(first + _BATCH, count)):
                client.enqueue_in_transaction(connection, {"queue_name": _QUEUE, "workflow_name": _WORKFLOW}, number)
    took = time.perf_counter() - begun
    client.destroy()
    return took


def _launch() -> None:
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": _URL,
        "application_version": "1",
        "log_level": "WARNING",
        "sys_db_pool_size": _SIDE_BY_SIDE,
    }
    DBOS(config=config)
    DBOS.launch()
    DBOS.register_queue(_QUEUE, worker_concurrency=_SIDE_BY_SIDE, polling_interval_sec=_POLL_SECONDS)


def main(arguments: list[str]) -> None:
    """`schema`, `enqueue N` or `work`."""
    verb = arguments[0]
    seconds = 0.0
    if verb == "schema":
        _launch()
        DBOS.destroy()
    elif verb == "work":
        _launch()
        threading.Event().wait()
    else:
        seconds = enqueue(int(arguments[1]))
    json.dump({"seconds": seconds}, sys.stdout)
