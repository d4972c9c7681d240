"""What `make demo` does."""

import json
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shell, lines
from tests.services.models import SMOLLM2

pytestmark = pytest.mark.acceptance

EXAMPLES = Path(__file__).parents[2] / "examples" / "jobs.jsonl"


def test_the_examples_through_a_real_model(tmp_path, smollm2_home):
    """The demo: real requests, a real model, moderation that acts, criteria that were judged. Answers are cut short."""
    shell = Shell(tmp_path, {"HEADRACE_HOME": str(smollm2_home), "HEADRACE_MODEL": SMOLLM2})
    jobs = lines(EXAMPLES.read_text())
    for job in jobs:
        if job["metadata"]["kind"] != "moderation":
            job["sampling"]["max_tokens"] = 12
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    printed = shell.run("run", "jobs.jsonl", "-o", "receipts.jsonl", "--table")
    receipts = lines((tmp_path / "receipts.jsonl").read_text())
    results = [receipt for receipt in receipts if receipt["type"] == "headrace.result.v1"]
    assert len(results) == len(receipts) == len(jobs)
    assert all(result["answer"]["usage"]["completion_tokens"] > 0 for result in results)
    scores = [score for result in results for score in result["judge"]["scores"]]
    assert all(("value" in score) != ("reason" in score) for score in scores)
    assert any(result["moderation"]["action"] == "redact" for result in results)
    assert [line.split()[0] for line in printed.splitlines() if line[:1].isdigit()] == [
        str(number) for number in range(1, len(results) + 1)
    ]
    assert f"jobs        {len(results)} (" in printed
    assert max(map(len, printed.splitlines())) <= 100
