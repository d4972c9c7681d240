"""What `make demo` does."""

import json
from collections import Counter
from itertools import groupby, islice
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shell, lines
from tests.services.models import MINILM, SMOLLM2, minilm
from tests.services.tables import sqlite_tables

pytestmark = pytest.mark.acceptance

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = FOLDER / "jobs.jsonl"


def test_the_examples_through_a_real_model(tmp_path, smollm2_home):
    jobs = []
    for kind, alike in groupby(lines(EXAMPLES.read_text()), key=lambda job: job["metadata"]["kind"]):
        jobs += islice(alike, None if kind == "moderation" else 2)
    printed, results = answered(tmp_path, smollm2_home, jobs)
    actions = Counter(result["moderation"]["action"] for result in results)
    assert (actions["redact"] >= 4, actions["block"]) == (True, 0)
    assert [line.split()[0] for line in printed.splitlines() if line.strip()[:1].isdigit()][: len(jobs)] == [
        str(number) for number in range(1, len(jobs) + 1)
    ]
    assert f"{len(jobs)} jobs: {len(jobs)} completed" in printed
    assert "[PROFANITY]" in printed
    assert max(map(len, printed.splitlines())) <= 100


@pytest.mark.slow
def test_the_demo_shows_good_work(tmp_path, smollm2_home):
    _, results = answered(tmp_path, smollm2_home, lines(EXAMPLES.read_text()))
    scores = [[score.get("value") for score in result["judge"]["scores"]] for result in results]
    good = [values for values in scores if values and all(value == 1.0 for value in values)]
    assert len(good) >= len(results) - 4
    assert sum(result["moderation"]["action"] == "redact" for result in results) >= 4


def answered(folder: Path, home: Path, jobs: list[dict]) -> tuple[str, list[dict]]:
    """What `headrace run` prints, and the results of these jobs, all of them answered."""
    shell = Shell(folder, {"HEADRACE_HOME": str(home), "HEADRACE_MODEL": SMOLLM2})
    (folder / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    printed = shell.run("run", "jobs.jsonl", "-o", "receipts.jsonl", "--table")
    receipts = lines((folder / "receipts.jsonl").read_text())
    results = [receipt for receipt in receipts if receipt["type"] == "headrace.result.v1"]
    assert len(results) == len(receipts) == len(jobs)
    assert all(result["answer"]["usage"]["completion_tokens"] > 0 for result in results)
    return printed, sorted(results, key=lambda result: result["line"])


def test_the_questions_over_the_documents_that_ship(shell, tmp_path_factory):
    sqlite_tables(shell.folder / ".headrace" / "ledger.db")
    source = minilm("int8", tmp_path_factory) / "models" / MINILM
    (shell.folder / ".headrace" / "models" / MINILM).symlink_to(source)
    shell.run("knowledge", "add", "museum", str(FOLDER / "knowledge"))
    jobs = [{**job, "model": "echo"} for job in lines((FOLDER / "questions.jsonl").read_text())]
    (shell.folder / "questions.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    printed = shell.run("run", "questions.jsonl", "-o", "answers.jsonl", "--table")
    receipts = sorted(lines((shell.folder / "answers.jsonl").read_text()), key=lambda receipt: receipt["line"])
    assert len(receipts) == len(jobs)
    tiers: dict[str, list[str]] = {}
    for job, receipt in zip(jobs, receipts, strict=True):
        answer = receipt["answer"]
        documents = [citation["document"] for citation in answer["grounding"].get("citations", ())]
        if job["metadata"]["kind"] == "elsewhere":
            assert documents == []
            assert (answer["finish_reason"] == "abstained") == ("without_passages" not in job)
        else:
            assert documents, job
        tiers.setdefault(job["messages"][-1]["content"], []).append(answer["recall"]["tier"])
    again = [sorted(tier) for tier in tiers.values() if len(tier) > 1]
    assert again
    assert all(group in (["exact", "none"], ["coalesced", "none"]) for group in again)
    assert " cites " in printed
    assert "coalesced" in printed or "exact" in printed
    assert "abstained" in printed
    assert max(map(len, printed.splitlines())) <= 100
