"""Latency: what the pipeline adds to one interactive job, when all is idle and when the model is busy."""

import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.deployment import TWO_WORKERS, Deployment, deployment
from bench.ends import Ends, Say, Stalled
from bench.floor import TIMES, floor, total
from bench.flow import ECHO, SMOLLM2, make_home, requests
from bench.report import Report, Row, percentile, report, row
from bench.services import Services, services
from headrace_producers import Producer
from headrace_workers.core.ledger.counts import Overview, overview
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import reading

NAME = "latency"
_SHORT = 16  # max_tokens of an interactive job
_LONG = 64  # and of one of the batch lane
_WARM_UP = 20
_START_SECONDS = 120.0
_SAY_EVERY = 10


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """300 echo jobs one at a time, then 40 SmolLM2 jobs one at a time beside 2,000 of the batch lane."""
    singles, alone, queued, beside = (20, 2, 120, 4) if quick else (300, 10, 2_000, 40)
    with services(embedded=embedded) as there:
        home = make_home(there.folder, ECHO)
        rows = _idle(there, home, singles, say)
        say("the model is made ready")
        home = make_home(there.folder, SMOLLM2)
        rows += _busy(there, home, (alone, queued, beside), say)
        return report(NAME, there.stack, rows)


def _idle(there: Services, home: Path, count: int, say: Say) -> list[Row]:
    say(f"{count} echo jobs, one at a time, and the floor in turns")
    took: list[float] = []
    parts: list[dict[str, float]] = []
    with (
        deployment(there, home, [ECHO], TWO_WORKERS) as live,
        live.producer() as producer,
        Ends(live.kafka) as ends,
        floor(there) as measure,
    ):
        job = {"model": ECHO, "prompt": "Is the ferry late today?", "max_tokens": _SHORT}
        for turn in range(-_WARM_UP, count):  # the machine's speed moves: both sides see the same of it
            one, alone = 1000 * _one(producer, ends, job, say), measure()
            if turn >= 0:
                took.append(one)
                parts.append(alone)
    least = [total(part) for part in parts]
    rows = [
        row(f"floor: {name}, {times} of them a job, p50 of {count}", percentile([p[name] for p in parts], 50), "ms")
        for name, times in TIMES.items()
    ]
    at_50, at_99 = percentile(took, 50), percentile(took, 99)
    return [
        *rows,
        row(f"floor: all that a job cannot do without, p50 of {count}", percentile(least, 50), "ms"),
        row(f"echo, one at a time, p50 of {count}", at_50, "ms"),
        row(f"echo, one at a time, p99 of {count}", at_99, "ms"),
        row("echo to the floor, p50", at_50 / percentile(least, 50), "ratio", at_most=1.5),
        row("echo to the floor, p99", at_99 / percentile(least, 99), "ratio"),
    ]


def _busy(there: Services, home: Path, sizes: tuple[int, int, int], say: Say) -> list[Row]:
    alone, queued, beside = sizes
    job = {"model": SMOLLM2, "prompt": "Is the ferry late today? Answer in a few words.", "max_tokens": _SHORT}
    with (
        deployment(there, home, [SMOLLM2], TWO_WORKERS) as live,
        live.producer() as producer,
        Ends(live.kafka) as ends,
    ):
        _one(producer, ends, job, say)
        say(f"{alone} SmolLM2 jobs alone, one at a time")
        single = percentile([_one(producer, ends, job, say) for _ in range(alone)], 50)
        _fill(producer, live, queued, say)
        say(f"{beside} SmolLM2 jobs, one at a time, while {queued:,} of the batch lane wait or run")
        took, open_jobs = [], queued
        for number in range(beside):
            time.sleep(random.uniform(0, 0.5))  # else every job would come just as a group ends
            took.append(_one(producer, ends, job, say))
            open_jobs = _overview(live).active
            if number % _SAY_EVERY == 0:
                say(f"{took[-1]:.2f} s; {open_jobs:,} of the batch lane are open")
            if not open_jobs:
                break
        say("done: what is left of the batch lane is dropped")
    return [
        row(f"SmolLM2, {_SHORT} tokens, one job alone, p50 of {alone}", single, "s"),
        row(f"the same beside {queued:,} jobs of the batch lane, p50 of {len(took)}", percentile(took, 50), "s"),
        row(f"the same beside {queued:,} jobs of the batch lane, p99 of {len(took)}", percentile(took, 99), "s"),
        row("beside the batch lane to alone, p50", percentile(took, 50) / single, "ratio", at_most=2.0),
        row("beside the batch lane, p99, to alone, p50", percentile(took, 99) / single, "ratio", at_most=3.0),
        row("jobs of the batch lane that were still open when the last interactive one had ended", open_jobs, "jobs"),
    ]  # fmt: skip


def _fill(producer: Producer, live: Deployment, count: int, say: Say) -> None:
    say(f"{count:,} jobs of the batch lane are queued")
    before = _overview(live).done
    for request in requests(count):
        producer.generate(model=SMOLLM2, prompt=request["prompt"], max_tokens=_LONG, lane="batch")
    producer.flush(120)
    until = time.monotonic() + _START_SECONDS
    while _overview(live).done == before:
        if time.monotonic() > until:
            raise Stalled(f"no job of the batch lane has ended in {_START_SECONDS:g} s; see {live.log}")
        time.sleep(0.2)


def _one(producer: Producer, ends: Ends, job: Mapping[str, Any], say: Say) -> float:
    """Seconds from the call that sends an interactive job until its result is decoded."""
    begun = time.monotonic()
    job_id = producer.generate(**job, lane="interactive")
    ends.wait({job_id}, say, keep=True)
    return time.monotonic() - begun


def _overview(live: Deployment) -> Overview:
    ledger = Ledger.at(live.ledger)
    try:
        with reading(ledger.engine) as tx:
            return overview(tx)
    finally:
        ledger.close()
