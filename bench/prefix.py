"""Prefix: what it saves to compute the system prompt that many jobs share once."""

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

NAME = "prefix"
MAX_TOKENS = 32
SYSTEM = "You are the assistant of a shop. Answer politely, in one sentence. " + " ".join(
    f"Rule {number}: who asks for item {number * 7 % 31} is told that it costs {number} coins and is there in "
    f"{number % 5 + 1} days."
    for number in range(14)
)
_TURNS = 2
_SIZES = (4, 8, 16)
_PLAIN_SECONDS = 1_800.0


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """128 jobs (16 when quick) with one system prompt, in turns: shared, not shared, and the plain script."""
    count, turns = (16, 1) if quick else (128, _TURNS)
    prompts = [request["prompt"] for request in requests(count)]
    with services(embedded=embedded) as there:
        say("the model is made ready")
        home = make_home(there.folder, SMOLLM2)
        question = {"model": str(home / "models" / SMOLLM2), "threads": available_cores(), "sample": count // 2,
                    "prompts": prompts, "max_tokens": MAX_TOKENS, "system": SYSTEM, "sizes": _SIZES}  # fmt: skip
        found: dict[str, list[float]] = {"shared": [], "whole": [], "plain": []}
        size = None
        for turn in range(turns):
            say(f"turn {turn + 1} of {turns}: the plain script")
            plain = _plain(there.folder, question | {"batch_size": size})
            size = plain["batch_size"]
            found["plain"].append(plain["tokens"] / plain["seconds"])
            say("shared")
            found["shared"].append(_pipeline(there, home, _jobs(prompts), say))
            say("not shared")
            found["whole"].append(_pipeline(there, home, _jobs(prompts, alike=False), say))
        return report(NAME, there.stack, _rows(count, found))


def _pipeline(there: Services, home: Path, jobs: list[dict[str, Any]], say: Say) -> float:
    """Completion tokens a second of all jobs, through a deployment that has just begun and has answered some."""
    with (
        deployment(there, home, [SMOLLM2], TWO_WORKERS) as live,
        live.producer() as producer,
        Ends(live.kafka) as ends,
    ):
        run(producer, ends, [_again(job) for job in jobs[:32]], say)
        flow = run(producer, ends, jobs, say, keep=True)
        return _tokens(flow) / flow.ended


def _jobs(prompts: list[str], *, alike: bool = True) -> list[dict[str, Any]]:
    """Return the jobs; unless they are alike, each system prompt begins with its own number and none is shared."""
    return [
        {"model": SMOLLM2, "max_tokens": MAX_TOKENS, "lane": "batch", "messages": [
            {"role": "system", "content": SYSTEM if alike else f"{number}. {SYSTEM}"},
            {"role": "user", "content": prompt}]}
        for number, prompt in enumerate(prompts)
    ]  # fmt: skip


def _again(job: dict[str, Any]) -> dict[str, Any]:
    system, user = job["messages"]
    return job | {"messages": [system, user | {"content": f"Once more. {user['content']}"}]}


def _tokens(flow: Flow) -> int:
    return sum(result.answer.usage.completion_tokens for result in flow.results.values())


def _plain(folder: Path, question: dict[str, Any]) -> dict[str, Any]:
    file = folder / "question.json"
    file.write_text(json.dumps(question), encoding="utf-8")
    found: dict[str, Any] = ask(command("plain_generate", str(file)), os.environ, _PLAIN_SECONDS)
    return found


def _rows(count: int, found: dict[str, list[float]]) -> list[Row]:
    names = {
        "shared": f"{count} jobs, the system prompt computed once",
        "whole": f"{count} jobs, each prompt read whole",
        "plain": f"plain script, {count} prompts, static_prompt",
    }
    rows = [row(f"{names[side]}, run {turn}", rate, "tokens/s")
            for side, rates in found.items() for turn, rate in enumerate(rates, 1)]  # fmt: skip
    shared = mean(found["shared"])
    return [
        *rows,
        row("computed once to read whole", shared / mean(found["whole"]), "ratio", at_least=1.0),
        row("computed once to plain script", shared / mean(found["plain"]), "ratio", at_least=0.9),
    ]
