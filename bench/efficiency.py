"""Efficiency: what is left of the engine's speed when jobs come through the whole pipeline."""

import json
import os
from pathlib import Path
from statistics import mean
from typing import Any

from bench.deployment import TWO_WORKERS, deployment
from bench.ends import Ends, Say
from bench.flow import SMOLLM2, Flow, make_home, requests, run
from bench.peers.process import ask, command
from bench.report import Report, Row, report, row
from bench.services import Services, services
from headrace_workers.core.machine import available_cores

NAME = "efficiency"
MAX_TOKENS = 64
_WARM_UP = 32
_TURNS = 2  # of the pipeline, each between two runs of the plain script: the machine's speed moves meanwhile
_SAMPLE = 256  # prompts that the batch size is chosen with
_PLAIN_SECONDS = 1_800.0


def bench(say: Say, *, quick: bool = False, embedded: bool = False, count: int | None = None) -> Report:
    """512 jobs (48 when quick) with SmolLM2 int8, twice; the plain script runs before, between and after, alone on the
    machine."""
    count = count or (48 if quick else 512)
    asked = requests(count)
    with services(embedded=embedded) as there:
        say("the model is made ready")
        home = make_home(there.folder, SMOLLM2)
        sample = 16 if quick else _SAMPLE
        question = {"model": str(home / "models" / SMOLLM2), "threads": available_cores(), "sample": sample,
                    "prompts": [entry["prompt"] for entry in asked], "max_tokens": MAX_TOKENS}  # fmt: skip
        say(f"plain script: the best batch size, then {count} prompts")
        plain = [_plain(there.folder, question | {"batch_size": None})]
        size = plain[0]["batch_size"]
        say(f"plain script: {_rate(plain[0]):,.0f} tokens/s with batches of {size}")
        flows = []
        for turn in range(_TURNS):
            say(f"pipeline: {count} jobs ({turn + 1} of {_TURNS})")
            flows.append(_pipeline(there, home, asked, say))
            say("plain script: once more")
            plain.append(_plain(there.folder, question | {"batch_size": size}))
        return report(NAME, there.stack, _rows(count, plain, flows))


def _pipeline(there: Services, home: Path, asked: list[dict[str, Any]], say: Say) -> Flow:
    """All requests through a deployment that has just begun, and stops then."""
    with (
        deployment(there, home, [SMOLLM2], TWO_WORKERS) as live,
        live.producer() as producer,
        Ends(live.kafka) as ends,
    ):
        run(producer, ends, _jobs(asked[:_WARM_UP]), say)
        return run(producer, ends, _jobs(asked), say, keep=True)


def _rows(count: int, plain: list[dict[str, Any]], flows: list[Flow]) -> list[Row]:
    # int8 answers move a little with their neighbours, and so does their number of tokens
    tokens = [sum(result.answer.usage.completion_tokens for result in flow.results.values()) for flow in flows]
    rates = [written / flow.ended for written, flow in zip(tokens, flows, strict=True)]
    size, sweep = plain[0]["batch_size"], plain[0]["sweep"]
    seconds = mean(entry["seconds"] for entry in plain)
    return [
        *(row(f"plain script, sample in batches of {tried}", rate, "tokens/s") for tried, rate in sweep.items()),
        *(
            row(f"plain script, {count} prompts in batches of {size}, run {number}", _rate(entry), "tokens/s")
            for number, entry in enumerate(plain, 1)
        ),
        *(
            row(f"pipeline, {count} jobs, publishing included, run {number}", rate, "tokens/s")
            for number, rate in enumerate(rates, 1)
        ),
        row("plain script, completion tokens", mean(entry["tokens"] for entry in plain), "tokens"),
        row("pipeline, completion tokens", mean(tokens), "tokens"),
        row("pipeline to plain script, completion tokens a second", mean(rates) / mean(map(_rate, plain)), "ratio",
            at_least=0.95),
        row("pipeline to plain script, answers a second", seconds / mean(flow.ended for flow in flows), "ratio"),
    ]  # fmt: skip


def _jobs(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**entry, "model": SMOLLM2, "max_tokens": MAX_TOKENS, "lane": "batch"} for entry in asked]


def _plain(folder: Path, question: dict[str, Any]) -> dict[str, Any]:
    file = folder / "question.json"
    file.write_text(json.dumps(question), encoding="utf-8")
    return ask(command("plain_generate", str(file)), os.environ, _PLAIN_SECONDS)


def _rate(found: dict[str, Any]) -> float:
    return float(found["tokens"] / found["seconds"])
