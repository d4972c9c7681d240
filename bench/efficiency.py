"""Efficiency: what is left of the engine's speed when jobs come through the whole pipeline."""

import json
import os
from pathlib import Path
from typing import Any

from bench.deployment import TWO_WORKERS, deployment
from bench.ends import Ends, Say
from bench.flow import SMOLLM2, Flow, make_home, requests, run
from bench.peers.process import ask, command
from bench.report import Report, Row, report, row
from bench.services import services
from headrace_workers.engines.hardware import available_cores

NAME = "efficiency"
MAX_TOKENS = 64
_WARM_UP = 32
_SAMPLE = 128  # prompts that the batch size is chosen with
_PLAIN_SECONDS = 1_800.0


def bench(say: Say, *, quick: bool = False, embedded: bool = False, count: int | None = None) -> Report:
    """512 jobs (48 when quick) with SmolLM2 int8; the plain script runs before and after, alone on the machine."""
    count = count or (48 if quick else 512)
    asked = requests(count)
    with services(embedded=embedded) as there:
        say("the model is made ready")
        home = make_home(there.folder, SMOLLM2)
        sample = 16 if quick else _SAMPLE
        question = {"model": str(home / "models" / SMOLLM2), "threads": available_cores(), "sample": sample,
                    "prompts": [each["prompt"] for each in asked], "max_tokens": MAX_TOKENS}  # fmt: skip
        say(f"plain script: the best batch size, then {count} prompts")
        before = _plain(there.folder, question | {"batch_size": None})
        say(f"plain script: {_rate(before):,.0f} tokens/s with batches of {before['batch_size']}")
        with (
            deployment(there, home, [SMOLLM2], TWO_WORKERS) as live,
            live.producer() as producer,
            Ends(live.kafka) as ends,
        ):
            run(producer, ends, _jobs(asked[:_WARM_UP]), say)
            say(f"pipeline: {count} jobs")
            flow = run(producer, ends, _jobs(asked), say, keep=True)
        say("plain script: once more")
        after = _plain(there.folder, question | {"batch_size": before["batch_size"]})
        return report(NAME, there.stack, _rows(count, before, after, flow))


def _rows(count: int, before: dict[str, Any], after: dict[str, Any], flow: Flow) -> list[Row]:
    tokens = sum(result.usage.completion_tokens for result in flow.results.values())
    rate, plain = tokens / flow.ended, (_rate(before) + _rate(after)) / 2
    seconds = (before["seconds"] + after["seconds"]) / 2
    size = before["batch_size"]
    return [
        *(
            row(f"plain script, sample in batches of {size}", rate, "tokens/s")
            for size, rate in before["sweep"].items()
        ),
        row(f"plain script, {count} prompts in batches of {size}, before", _rate(before), "tokens/s"),
        row("plain script, the same, after", _rate(after), "tokens/s"),
        row("plain script, completion tokens", before["tokens"], "tokens"),
        row(f"pipeline, {count} jobs, publishing included", rate, "tokens/s"),
        row("pipeline, completion tokens", tokens, "tokens"),  # int8 answers move a little with their neighbours
        row("pipeline to plain script, completion tokens a second", rate / plain, "ratio", at_least=0.9),
        row("pipeline to plain script, answers a second", seconds / flow.ended, "ratio"),
    ]


def _jobs(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**each, "model": SMOLLM2, "max_tokens": MAX_TOKENS, "lane": "batch"} for each in asked]


def _plain(folder: Path, question: dict[str, Any]) -> dict[str, Any]:
    file = folder / "question.json"
    file.write_text(json.dumps(question), encoding="utf-8")
    return ask(command("plain_generate", str(file)), os.environ, _PLAIN_SECONDS)


def _rate(found: dict[str, Any]) -> float:
    return float(found["tokens"] / found["seconds"])
