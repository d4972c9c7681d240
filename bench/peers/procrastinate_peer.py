"""procrastinate on PostgreSQL: a task that does nothing. `schema`, `defer N` and `work`."""

import asyncio
import json
import os
import sys
import time

import procrastinate
from procrastinate.types import JSONDict

_BATCH = 1_000
_CONCURRENCY = 10  # tasks side by side in one process: 1 is slower, 30 no faster

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_POSTGRES"]))


@app.task(name="bench.noop")
async def noop(number: int) -> None:
    """Do nothing."""


async def defer(count: int) -> float:
    """Seconds to defer `count` tasks in batches."""
    begun = time.perf_counter()
    for first in range(0, count, _BATCH):
        rows: list[JSONDict] = [{"number": number} for number in range(first, min(first + _BATCH, count))]
        await noop.batch_defer_async(*rows)
    return time.perf_counter() - begun


def main(arguments: list[str]) -> None:
    """`schema`, `defer N` or `work`."""
    asyncio.run(_do(arguments[0], int(arguments[1]) if len(arguments) > 1 else 0))


async def _do(verb: str, count: int) -> None:
    async with app.open_async():
        if verb == "schema":
            await app.schema_manager.apply_schema_async()
        elif verb == "work":
            await app.run_worker_async(concurrency=_CONCURRENCY, delete_jobs="never")
            return
        json.dump({"seconds": await defer(count) if verb == "defer" else 0.0}, sys.stdout)
