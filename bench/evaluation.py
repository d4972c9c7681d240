"""Evaluations: 200 items and four variants from the call to the report, beside a plain script; and a report of 100,000
answers.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

from bench.deployment import TWO_WORKERS, Deployment, deployment
from bench.ends import Say
from bench.flow import SMOLLM2, make_home, requests
from bench.peers.process import ask, command
from bench.report import Report, Row, report, row
from bench.services import Services, services
from headrace_schemas import Answer, JudgeVerdict, Result, Score, Usage
from headrace_schemas.codec import encode_value
from headrace_schemas.errors import HeadraceError
from headrace_workers.core.machine import available_cores
from headrace_workers.features.evals.analysis import analyse
from headrace_workers.features.evals.outcomes import opened, read_outcomes
from headrace_workers.features.evals.plan import Plan, read_dataset
from headrace_workers.features.evals.report import markdown, report_lines, summary
from headrace_workers.features.evals.report_page import report_page
from headrace_workers.features.evals.run_file import read_run

NAME = "evaluation"
MAX_TOKENS = 32
_VARIANTS = ("{{q}}", "Answer briefly. {{q}}", "{{q}} Give one sentence.", "Please: {{q}}")
_HEAD = """
dataset = "items.jsonl"
primary = "words"
margin = 0.02
common = {{ model = "{model}", sampling = {{ max_tokens = {max_tokens} }} }}
criteria = [
  {{ name = "words", criterion = "length", min_words = 5 }},
  {{ name = "json", criterion = "json_valid" }},
]
"""
_SECONDS = 3_600.0


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """200 items (12 when quick) in four variants on SmolLM2; a report of 100,000 answers (4,000)."""
    items, answers = (12, 4_000) if quick else (200, 100_000)
    with services(embedded=embedded) as there:
        rows = _asked(there, items, say)
        rows.append(_reported(answers, say))
        return report(NAME, there.stack, rows)


def _asked(there: Services, items: int, say: Say) -> list[Row]:
    home = make_home(there.folder, SMOLLM2)
    questions = [request["prompt"] for request in requests(items)]
    jobs = items * len(_VARIANTS)
    prompts = [variant.replace("{{q}}", question) for question in questions for variant in _VARIANTS]
    question = {"model": str(home / "models" / SMOLLM2), "threads": available_cores(), "sample": min(jobs, 128),
                "prompts": prompts, "max_tokens": MAX_TOKENS, "batch_size": None}  # fmt: skip
    say(f"plain script: the best batch size, then {jobs} prompts")
    plain = [_plain(there.folder, question)]
    with deployment(there, home, [SMOLLM2], TWO_WORKERS) as live, tempfile.TemporaryDirectory() as folder:
        say("an evaluation to warm up")
        _evaluated(Path(folder, "warm"), live, questions[:8])
        say(f"an evaluation of {items} items in {len(_VARIANTS)} variants")
        seconds = _evaluated(Path(folder, "run"), live, questions)
    say("plain script: once more")  # the machine's speed moves: the evaluation stands between the two
    plain.append(_plain(there.folder, question | {"batch_size": plain[0]["batch_size"]}))
    alone = mean(entry["seconds"] for entry in plain)
    return [
        *(
            row(f"plain script, {jobs} prompts in batches of {entry['batch_size']}, run {number}",
                jobs / entry["seconds"], "jobs/s")
            for number, entry in enumerate(plain, 1)
        ),
        row(f"evaluation of {items} items in {len(_VARIANTS)} variants, from the call to the report", jobs / seconds,
            "jobs/s"),
        row("evaluation to plain script", alone / seconds, "ratio", at_least=0.9),
    ]  # fmt: skip


def _evaluated(folder: Path, live: Deployment, questions: list[str]) -> float:
    """Seconds of the whole command."""
    _write(folder, questions, SMOLLM2)
    call = [sys.executable, "-m", "headrace_workers", "evaluate", "run.toml", "-o", "report", "--no-start", "--json"]
    begun = time.monotonic()
    done = subprocess.run(
        call, cwd=folder, env=dict(live.env), capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    seconds = time.monotonic() - begun
    if done.returncode != 0 or any(variant["statuses"]["dead"] for variant in json.loads(done.stdout)["variants"]):
        raise HeadraceError(f"the evaluation did not end well: {done.stdout[-500:]}{done.stderr[-500:]}")
    return seconds


def _reported(answers: int, say: Say) -> Row:
    """Receipts in the order of chance, as they come, of about a kilobyte each."""
    say(f"a report of {answers:,} answers")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, [f"question {number}" for number in range(answers // len(_VARIANTS))], "echo")
        run = read_run(folder / "run.toml", "echo")
        plan = Plan(run, read_dataset(folder / run.dataset), "bench")
        with (folder / "receipts.jsonl").open("wb") as file:
            file.writelines(_receipts(plan.jobs))
        begun = time.monotonic()
        with opened(folder / "receipts.jsonl", plan.jobs) as receipts:
            analysis = analyse(plan, read_outcomes(plan, receipts))
            with (folder / "report.json").open("wb") as file:
                file.writelines(report_lines(summary(plan, analysis, None), plan, receipts))
            (folder / "report.md").write_text(markdown(plan, analysis, None), encoding="utf-8")
            (folder / "report.html").write_text(report_page(plan, analysis, None, receipts), encoding="utf-8")
        return row(
            f"report of {answers:,} answers, from receipts to files", time.monotonic() - begun, "s", at_most=10.0
        )


def _receipts(jobs: int) -> Iterator[bytes]:
    chance = random.Random(1)
    answer = Answer(text="a word " * 50, finish_reason="stop", model="echo", quantization="none",
                    usage=Usage(prompt_tokens=20, completion_tokens=50))  # fmt: skip
    for line in chance.sample(range(1, jobs + 1), jobs):
        scores = (Score(criterion="length", name="words", version="v1", value=float(chance.random() < 0.7)),
                  Score(criterion="json_valid", name="json", version="v1", value=chance.random()))  # fmt: skip
        result = Result(job_id="00000000-0000-5000-8000-000000000000", tenant="bench", status="completed",
                        kind="generation", answer=answer, judge=JudgeVerdict(scores=scores),
                        accepted_at=datetime(2026, 1, 1, tzinfo=UTC), total_ms=chance.random() * 1_000)  # fmt: skip
        yield b'{"line":%d,"type":"headrace.result.v1",' % line + encode_value(result)[1:] + b"\n"


def _write(folder: Path, questions: list[str], model: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "items.jsonl").write_text(
        "".join(json.dumps({"q": question}) + "\n" for question in questions), encoding="utf-8"
    )
    variants = "".join(
        f"\n[[variants]]\nname = {json.dumps(name)}\nprompt = {json.dumps(prompt)}\n"
        for name, prompt in zip("ABCD", _VARIANTS, strict=True)
    )
    head = _HEAD.format(model=model, max_tokens=MAX_TOKENS)
    (folder / "run.toml").write_text(head + variants, encoding="utf-8")


def _plain(folder: Path, question: dict[str, Any]) -> dict[str, Any]:
    file = folder / "question.json"
    file.write_text(json.dumps(question), encoding="utf-8")
    found: dict[str, Any] = ask(command("plain_generate", str(file)), os.environ, _SECONDS)
    return found
