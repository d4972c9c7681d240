"""Batches: a file of lines from its submission to its last answer, beside the same jobs published one by one."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import psutil

from bench.deployment import TWO_WORKERS, Deployment, deployment
from bench.ends import Ends, Say, Stalled
from bench.flow import ECHO, SMOLLM2, echo_jobs, make_home, requests, run
from bench.peers.process import ask, command
from bench.report import Report, Row, report, row
from bench.services import Services, services
from headrace_workers.cli.connections import ring_bridges
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.machine import available_cores
from headrace_workers.features.batches.new_batch import BatchOptions, submit
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.files.object_store import Store
from headrace_workers.files.service import Files
from headrace_workers.files.store.stored import StoredFiles

NAME = "batch"
MAX_TOKENS = 64
_WARM_UP = 500
_WARM_UP_REAL = 32
_TURNS = 2  # of the real batch, each between two runs of the plain script: the machine's speed moves meanwhile
_SECONDS = 3_600.0
_MIB = 2**20


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """100,000 echo lines (2,000 when quick), and 512 real ones (48) on SmolLM2 beside the plain script."""
    count, real = (2_000, 48) if quick else (100_000, 512)
    with services(embedded=embedded) as there:
        rows = _echo(there, count, say)
        rows += _real(there, real, say)
        return report(NAME, there.stack, rows)


def _echo(there: Services, count: int, say: Say) -> list[Row]:
    home = make_home(there.folder, ECHO)
    with (
        deployment(there, home, [ECHO], TWO_WORKERS) as live,
        live.producer() as producer,
        Ends(live.kafka) as ends,
    ):
        run(producer, ends, list(echo_jobs(min(count, _WARM_UP))), say)
        plumbed = min(count, 10_000)
        say(f"{plumbed:,} echo jobs, published one by one")
        flow = run(producer, ends, list(echo_jobs(plumbed)), say)
        bridge = psutil.Process(live.pids["bridge"])
        small = min(count, 10_000)
        say(f"a batch of {small:,} echo lines")
        run_batch(live, home, small, ECHO, say)
        before = bridge.memory_info().rss / _MIB
        say(f"a batch of {count:,} echo lines")
        seconds = run_batch(live, home, count, ECHO, say)
        after = bridge.memory_info().rss / _MIB
        say("the jobs once more, published one by one")
        rate = mean((flow.rate, run(producer, ends, list(echo_jobs(plumbed)), say).rate))
    return [
        row("echo jobs published one by one before and after it, ended", rate, "jobs/s"),
        row(f"batch of {count:,} echo lines, from its submission to its last answer", count / seconds, "lines/s"),
        row("lines to jobs", count / seconds / rate, "ratio", at_least=0.8),
        row(f"bridge's resident memory behind a batch of {small:,} lines", before, "MiB"),
        row(f"bridge's resident memory behind a batch of {count:,} lines", after, "MiB", at_most=150),
        row("the same, to that before", after / before, "ratio", at_most=1.1),
    ]


def _real(there: Services, count: int, say: Say) -> list[Row]:
    home = make_home(there.folder, SMOLLM2)
    asked = requests(count)
    question = {"model": str(home / "models" / SMOLLM2), "threads": available_cores(), "sample": min(count, 128),
                "prompts": [entry["prompt"] for entry in asked], "max_tokens": MAX_TOKENS}  # fmt: skip
    say(f"plain script: the best batch size, then {count} prompts")
    plain = [_plain(there.folder, question | {"batch_size": None})]
    size, rates = plain[0]["batch_size"], []
    for turn in range(_TURNS):
        with deployment(there, home, [SMOLLM2], TWO_WORKERS) as live:
            say("a batch to warm up")
            run_batch(live, home, _WARM_UP_REAL, SMOLLM2, say)
            say(f"a batch of {count} real lines ({turn + 1} of {_TURNS})")
            seconds = run_batch(live, home, count, SMOLLM2, say)
            rates.append(tokens_of_last(live) / seconds)
        say("plain script: once more")
        plain.append(_plain(there.folder, question | {"batch_size": size}))
    scripts = [entry["tokens"] / entry["seconds"] for entry in plain]
    return [
        *(row(f"plain script, {count} prompts in batches of {size}, run {number}", rate, "tokens/s")
          for number, rate in enumerate(scripts, 1)),
        *(row(f"batch of {count} SmolLM2 lines, run {number}", rate, "tokens/s")
          for number, rate in enumerate(rates, 1)),
        row("batch to plain script", mean(rates) / mean(scripts), "ratio", at_least=0.9),
    ]  # fmt: skip


def run_batch(live: Deployment, home: Path, count: int, model: str, say: Say) -> float:
    """Seconds from the submission of so many lines to the end of their batch."""
    ledger = Ledger.at(live.ledger)
    files = Files(ledger.of(StoredFiles), Store.at(str(home / "files")))
    wishes = BatchOptions(tenant="bench", defaults=Defaults(model, {"tenant": "bench", "lane": "batch"}))
    begun = said = time.monotonic()
    file = files.add(lines(count, model), tenant="bench", purpose="batch", name="bench.jsonl", keep=None, lines=True)
    batch, _ = submit(ledger, file, wishes, key=None)
    ring_bridges(live.env)
    while (found := ledger.of(Batches).batch(batch.id)) is not None and found.ended_at is None:
        if time.monotonic() - begun > _SECONDS:
            raise Stalled(f"the batch has not ended in {_SECONDS:g} s")
        if time.monotonic() - said > 10:
            said = time.monotonic()
            say(f"{found.completed:,} of {count:,}")
        # Asked twenty times a second, the ledger and this process would take 2 % of two cores from the batch.
        time.sleep(min(0.25, max(0.05, (time.monotonic() - begun) / 100)))
    seconds = time.monotonic() - begun
    if found is None or found.completed != count:
        raise Stalled(f"the batch has {found and found.completed} of {count} answers")
    ledger.close()
    return seconds


def tokens_of_last(live: Deployment) -> int:
    """The tokens of all answers of the batch that was submitted last."""
    ledger = Ledger.at(live.ledger)
    try:
        return ledger.of(Batches).batches(limit=1)[0].completion_tokens
    finally:
        ledger.close()


def lines(count: int, model: str) -> Iterator[bytes]:
    for job in _jobs(count, model):
        sampling = {"max_tokens": job.pop("max_tokens")}
        yield json.dumps({**job, "sampling": sampling}).encode() + b"\n"


def _jobs(count: int, model: str) -> Iterator[dict[str, Any]]:
    if model == ECHO:
        yield from echo_jobs(count)
        return
    for request in requests(count):
        yield {**request, "model": model, "max_tokens": MAX_TOKENS, "lane": "batch"}


def _plain(folder: Path, question: dict[str, Any]) -> dict[str, Any]:
    file = folder / "question.json"
    file.write_text(json.dumps(question), encoding="utf-8")
    found: dict[str, Any] = ask(command("plain_generate", str(file)), os.environ, 1_800.0)
    return found
