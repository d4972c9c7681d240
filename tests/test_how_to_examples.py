"""The examples of the pages on good answers are read by the code that they are meant for."""

import json
import re
from pathlib import Path

import pytest

from headrace_schemas import DecisionJob, EvaluationJob, GenerationJob
from headrace_schemas.review import Review
from headrace_workers.cli.jobfile import Defaults, parse_job
from headrace_workers.features.evals.plan import Plan, read_dataset
from headrace_workers.features.evals.run_file import read_run
from headrace_workers.features.moderation.policy_file import load_policy

DOCS = Path(__file__).parents[1] / "docs"
HOW_TO = {
    name: (DOCS / "how-to" / f"{name}.md").read_text("utf-8")
    for name in (
        "add-a-knowledge-base",
        "compare-two-prompts",
        "decide",
        "judge-answers",
        "prepare-training-data",
        "review-answers",
        "serve-repeated-questions",
        "set-a-moderation-policy",
    )
}
JOBS = [
    (name, line)
    for name, page in HOW_TO.items()
    for line in re.findall(r"^    (?:echo ')?(\{\"(?:prompt|input)\".*\})(?:'.*)?$", page, re.MULTILINE)
    if name != "prepare-training-data" and '"answer":' not in line
]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize(("name", "line"), JOBS, ids=[f"{name}-{number}" for number, (name, _) in enumerate(JOBS)])
def test_each_job_is_a_job(name: str, line: str) -> None:
    assert isinstance(parse_job(line.encode(), Defaults(model="echo")), GenerationJob | EvaluationJob | DecisionJob)


def test_jobs_were_found() -> None:
    """Each of these pages shows a job, so that the test above sees them."""
    assert {name for name, _ in JOBS} == {"decide", "judge-answers", "review-answers", "set-a-moderation-policy"}


def test_the_policy_can_be_copied(tmp_path: Path) -> None:
    first, tenant = blocks(HOW_TO["set-a-moderation-policy"], "toml")
    (words,) = blocks(HOW_TO["set-a-moderation-policy"], "text")
    (tmp_path / "blocklist.txt").write_text(words)
    (tmp_path / "policy.toml").write_text(first + "\n" + tenant)
    policy = load_policy(tmp_path / "policy.toml")
    assert policy.rules["phone"].action == "review"
    assert policy.of("shop").rules["phone"].action == "block"


def test_the_run_can_be_copied(tmp_path: Path) -> None:
    page = HOW_TO["compare-two-prompts"]
    (tmp_path / "run.toml").write_text(blocks(page, "toml")[0])
    items = re.findall(r"^    (\{\"country\".*\})$", page, re.MULTILINE)
    (tmp_path / "items.jsonl").write_text("\n".join(items))
    run = read_run(tmp_path / "run.toml", "none")
    assert len(list(Plan(run, read_dataset(tmp_path / run.dataset, run.id), "default").lines())) == 2 * len(items) == 4


def test_labels_can_be_copied() -> None:
    page = HOW_TO["review-answers"] + (DOCS / "reference" / "labels.md").read_text("utf-8")
    lines = re.findall(r"^ *(\{\"job_id\".*\})$", page, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        Review.model_validate_json(json.dumps({"tenant": "default", **json.loads(line)}))


def test_the_guard_of_the_page_works() -> None:
    (block,) = blocks((DOCS / "explanation" / "cache-guards.md").read_text("utf-8"), "python")
    exec(compile(block, "docs/explanation/cache-guards.md", "exec"), {})
