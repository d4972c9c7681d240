"""Runs to evaluate, with receipts as a deployment writes them."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from headrace_schemas import Answer, Category, DeadLetter, JudgeVerdict, Result, Score, StageRecord, Usage
from headrace_workers.cli.receipts import Receipt
from headrace_workers.features.evals.outcomes import Outcomes, Receipts, read_outcomes
from headrace_workers.features.evals.plan import Plan, read_dataset
from headrace_workers.features.evals.run_file import read_run

RUN = """
dataset = "items.jsonl"
primary = "right"
margin = 0.02
{more}

[[variants]]
name = "A"
prompt = "{{{{q}}}}"

[[variants]]
name = "B"
prompt = "Now: {{{{q}}}}"

[[criteria]]
name = "right"
criterion = "contains"
text = "yes"

[[criteria]]
criterion = "json_valid"
"""

_CRITERIA: Final = ({"criterion": "contains", "name": "right"}, {"criterion": "json_valid"})
Scores = Iterable[float | str]
ID = "00000000-0000-5000-8000-{:012d}"


def made(folder: Path, rows: Iterable[Mapping[str, Any]], more: str = "", text: str | None = None) -> Plan:
    """The plan of a run with two variants and two criteria over these rows."""
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "run.toml").write_text(RUN.format(more=more) if text is None else text, encoding="utf-8")
    run = read_run(folder / "run.toml", "echo")
    return Plan(run, read_dataset(folder / run.dataset, run.id, run.cluster), "default")


def answered(line: int, scores: Scores, text: str = "yes") -> bytes:
    """The receipt of a job that was answered; a score that is a text is the reason why there is none."""
    judged = tuple(
        Score(
            **criterion,
            **({"not_judged": "unanswered", "reason": score} if isinstance(score, str) else {"value": score}),
        )
        for criterion, score in zip(_CRITERIA, scores, strict=False)
    )
    result = Result(
        job_id=ID.format(line), tenant="default", status="completed", kind="generation",
        answer=Answer(text=text, finish_reason="stop", model="echo", quantization="none",
                      usage=Usage(prompt_tokens=7, completion_tokens=3)),
        judge=JudgeVerdict(scores=judged), accepted_at=datetime(2026, 11, 24, tzinfo=UTC), total_ms=100.0 * line,
        stages=(StageRecord(stage="generate", attempt=1, waited_ms=1.0, ran_ms=10.0, group_size=1),),
    )  # fmt: skip
    return Receipt(result, line).to_json() + b"\n"


def dead(line: int, reason: str = "too long") -> bytes:
    letter = DeadLetter(
        job_id=ID.format(line), category=Category.PERMANENT, reason=reason, stage="generate", attempts=1,
        topic="jobs.generation", size=2, original="{}", encoding="utf-8",
    )  # fmt: skip
    return Receipt(letter, line).to_json() + b"\n"


def receipts_of(plan: Plan, receipt: Callable[[int, int, int], bytes]) -> Receipts:
    """A receipt of every job, by item, repeat and variant."""
    content = [
        receipt(item, repeat, variant)
        for item in range(len(plan.dataset.items))
        for repeat in range(plan.run.repeats)
        for variant in range(len(plan.run.variants))
    ]
    return Receipts(b"".join(content), plan.jobs)


def outcomes_of(plan: Plan, scores: Callable[[int, int, int], Scores | None]) -> Outcomes:
    """What became of jobs with these scores; None is a job that died."""

    def receipt(item: int, repeat: int, variant: int) -> bytes:
        line, found = plan.line_of(item, repeat, variant), scores(item, repeat, variant)
        return dead(line) if found is None else answered(line, found)

    return read_outcomes(plan, receipts_of(plan, receipt))
