"""`headrace run`: everything around one file, and going on after an interruption."""

import json
import os
import signal
from pathlib import Path

import pytest
from tests.acceptance.conftest import SMOLLM2, Shell, lines
from tests.services.eventually import eventually

pytestmark = pytest.mark.acceptance

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
EXAMPLES = Path(__file__).parents[2] / "examples" / "jobs.jsonl"


def test_a_file_is_answered_whole(shell):
    """Every line has its receipt, and nothing runs afterwards."""
    jobs = [{"prompt": f"question {number}"} for number in range(200)]
    (shell.folder / "in.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    shell.run("run", "in.jsonl", "-o", "out.jsonl")
    receipts = lines((shell.folder / "out.jsonl").read_text())
    assert {receipt["line"]: receipt["text"] for receipt in receipts} == {
        number + 1: f"question {number}" for number in range(200)
    }
    assert len(receipts) == 200
    assert not (shell.folder / ".headrace" / "run.json").exists()


def test_a_file_of_evaluations_needs_no_model(tmp_path):
    """The line of the documentation, in a home without any model: compared, and its receipt written."""
    documented = next(line.strip() for line in DOCS.read_text().splitlines() if line.startswith('    {"input"'))
    (tmp_path / "in.jsonl").write_text(documented + "\n")
    Shell(tmp_path).run("run", "in.jsonl", "-o", "out.jsonl")
    (receipt,) = lines((tmp_path / "out.jsonl").read_text())
    assert (receipt["kind"], receipt["judge"]["scores"][0]["value"]) == ("evaluation", 1.0)


def test_an_interrupted_run_goes_on_and_answers_nothing_twice(shell):
    """Killed, interrupted, stopped, and run again each time: each line has one receipt, and what was written stands."""
    jobs = [{"prompt": f"%%sleep:0.02%% {number}"} for number in range(900)]
    (shell.folder / "in.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    out = shell.folder / "out.jsonl"
    before: list[bytes] = []
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        run, enough = shell.start("run", "in.jsonl", "-o", "out.jsonl"), len(before) + 20
        eventually(lambda enough=enough: out.exists() and out.read_bytes().count(b"\n") >= enough, 600)
        os.kill(run.pid, number)
        run.wait(300)
        written = out.read_bytes().rsplit(b"\n", 1)[0].splitlines()
        assert written[: len(before)] == before
        assert len(written) < len(jobs)
        before = written
    shell.run("run", "in.jsonl", "-o", "out.jsonl")
    after = out.read_bytes().splitlines()
    assert after[: len(before)] == before
    assert sorted(json.loads(line)["line"] for line in after) == list(range(1, len(jobs) + 1))


def test_the_examples_through_a_real_model(tmp_path, smollm2):
    """The demo: real requests, a real model, moderation that acts, criteria that were judged."""
    shell = Shell(tmp_path, {"HEADRACE_HOME": str(smollm2), "HEADRACE_MODEL": SMOLLM2})
    printed = shell.run("run", str(EXAMPLES), "-o", "receipts.jsonl", "--table")
    receipts = lines((tmp_path / "receipts.jsonl").read_text())
    results = [receipt for receipt in receipts if receipt["type"] == "headrace.result.v1"]
    assert len(results) == len(receipts) == len(EXAMPLES.read_text().splitlines())
    assert all(result["usage"]["completion_tokens"] > 0 for result in results)
    scores = [score for result in results for score in result["judge"]["scores"]]
    assert all(("value" in score) != ("reason" in score) for score in scores)
    assert any(result["moderation"]["action"] == "redact" for result in results)
    assert [line.split()[0] for line in printed.splitlines() if line[:1].isdigit()] == [
        str(number) for number in range(1, len(results) + 1)
    ]
    assert f"jobs        {len(results)} (" in printed
    assert max(map(len, printed.splitlines())) <= 100
