"""`headrace run` that is killed, interrupted and stopped, and goes on."""

import json
import os
import signal

import pytest
from tests.acceptance.conftest import WITH_A_LOG
from tests.services.eventually import eventually

pytestmark = pytest.mark.acceptance


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_answers_nothing_twice(shell):
    """Killed, interrupted, stopped, and run again each time: each line has one receipt, and what was written stands."""
    jobs = [{"prompt": f"%%sleep:0.05%% {number}"} for number in range(400)]
    shell.env |= WITH_A_LOG
    shell.env["HEADRACE_GROUP_SIZE"] = "16"  # so that what is in hand at a stop is little of the whole
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
