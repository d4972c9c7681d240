"""Fallback: what an outage of a chain's first model costs the users of its second.

A stream of interactive jobs asks for two models on other machines, served by a local server that answers in 0.5 s. The
first is healthy, down, hangs or is slow. One worker a model, 64 open calls each, SQLite and Redis; no Kafka. Latency is
from when a job was taken in until its model's answer was written.
"""

import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import select
from tests.services.eventually import eventually
from tests.services.redis import find_redis
from tests.services.tables import sqlite_tables
from tests.workers.features.generation.outages.provider import DOWN, HANG, OK, SLOW, catalogue, provider
from tests.workers.features.generation.outages.small_bridge import SmallBridge
from tests.workers.runtime.bridge.records import generation
from tests.workers.serving import NAMES
from tests.workers.worker_process import worker

from bench.ends import Say, Stalled
from bench.report import Report, Row, report, row
from headrace_schemas import HeadraceError
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.redis import live_queues, redis_client
from headrace_workers.core.tables import JOBS, STEPS

NAME = "fallback"
_ANSWERS = 0.5  # seconds
_FIRST_TOKEN = 2.0  # seconds: the limits of both models
_TOTAL = 3.0
_EVERY = 0.1  # seconds between two jobs
_MINUTE = 60.0
_SHORT = 6.0
_TIMES = 1.1
_MOST_CALLS = 70  # of a dead provider in its first minute
_MOST_LATER = 2  # in its third: its breaker stays open for a minute by then


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """The healthy second model alone, then each fault of the first for a minute, down for three (six seconds when
    quick).
    """
    minute = _SHORT if quick else _MINUTE
    rows: list[Row] = []
    usual: tuple[float, float] | None = None
    for fault in (OK, DOWN, HANG, SLOW):
        minutes = 3 if fault == DOWN else 1
        half, most, lost, calls = _measure(fault, minute, minutes)
        name = "second model alone" if fault == OK else f"first model {'hung' if fault == HANG else fault}"
        say(f"{name}: p50 {half:.0f} ms, p95 {most:.0f} ms, calls of the first {calls}")
        if usual is None:
            usual = half, most
            rows += [row(f"{name}: p50", half, "ms"), row(f"{name}: p95", most, "ms")]
            continue
        limit = {DOWN: 0.0, HANG: _FIRST_TOKEN * 1000, SLOW: _TOTAL * 1000}[fault]
        for share, value, before in (("p50", half, usual[0]), ("p95", most, usual[1])):
            told = "" if not limit else ", less the limit of the first where that is more"
            over = max(value - limit, min(value, before)) if limit else value
            rows.append(
                row(
                    f"{name}: {share}, to the second alone{told}",
                    over / before,
                    "×",
                    at_most=_TIMES if fault != SLOW else None,
                )
            )
            rows.append(row(f"{name}: {share}", value, "ms"))
        rows.append(row(f"{name}: jobs lost", lost, at_most=0))
        rows.append(row(f"{name}: calls of the first in {minute:.0f} s", calls[0], at_most=_MOST_CALLS))
        if fault == DOWN:
            rows.append(row(f"{name}: calls of the first in the third minute", calls[2], at_most=_MOST_LATER))
    return report(NAME, "SQLite, Redis, two local endpoints", rows)


def _measure(fault: str, minute: float, minutes: int) -> tuple[float, float, int, list[int]]:
    """Half and 95 % of the latencies (ms), jobs without an answer, and calls of the first model in each minute."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    try:
        with ExitStack() as stack:
            redis = find_redis(folder)
            if redis is None:
                raise HeadraceError("a redis-server is needed")
            redis.start()
            stack.callback(redis.stop)
            first, second = (stack.enter_context(provider()) for _ in range(2))
            first.seconds = second.seconds = _ANSWERS
            first.fault = fault
            catalogue(folder, {"first": first.url, "second": second.url}, first_token=_FIRST_TOKEN, total=_TOTAL)
            ledger = Ledger.at(sqlite_tables(folder / "ledger.db"))
            stack.callback(ledger.close)
            bridge = stack.enter_context(SmallBridge(ledger, folder, redis.url))
            for model in ("first", "second"):
                stack.enter_context(worker(folder, redis, "generate", model=model))
            queues = ["model.first", "model.second"]
            eventually(lambda: len(live_queues(redis_client(redis.url), NAMES, queues) or ()) == len(queues))
            chain = "second" if fault == OK else ("first", "second")
            bridge.send([generation(model="second", prompt="warm")])
            ids: list[str] = []
            begun = time.monotonic()
            while time.monotonic() < begun + minutes * minute:
                ids += bridge.send([generation(model=chain, prompt=f"question {len(ids)}")])
                time.sleep(_EVERY)
            _wait(bridge, ids)
            lost = len(ids) - len(bridge.outputs(ids))
            at = [int((call - begun) // minute) for call in first.calls]
            return *_latencies(ledger, ids), lost, [at.count(number) for number in range(minutes)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(bridge: SmallBridge, ids: list[str]) -> None:
    until = time.monotonic() + _MINUTE
    while len(bridge.outputs(ids)) < len(ids):
        if time.monotonic() > until:
            raise Stalled(f"{len(ids) - len(bridge.outputs(ids))} jobs were not answered")
        time.sleep(0.2)


def _latencies(ledger: Ledger, ids: list[str]) -> tuple[float, float]:
    query = select(STEPS.c.job_id, STEPS.c.ended_at - JOBS.c.accepted_at).join(JOBS, JOBS.c.id == STEPS.c.job_id)
    done = query.where(STEPS.c.stage == "generate", STEPS.c.state == "done")
    found = {step[0]: step[1] for step in ledger.read(done)}
    ordered = sorted(found[job_id] for job_id in ids)
    return ordered[len(ordered) // 2], ordered[int(0.95 * (len(ordered) - 1))]
