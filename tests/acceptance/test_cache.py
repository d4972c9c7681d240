"""The cache, as a user meets it: jobs that ask for the same at a time, and a worker that is killed meanwhile."""

import json
import os
import signal
from collections import Counter

import psutil
import pytest
from tests.acceptance.conftest import lines

pytestmark = pytest.mark.acceptance


def test_a_burst_of_one_request_costs_one_generation(stack):
    """Also when who looks it up is killed in the middle; a second burst costs none."""
    shell = stack
    line = {"prompt": "Why do rivers bend?", "cache": "exact", "model": "echo", "lane": "batch"}
    for name in ("first", "second"):
        jobs = [json.dumps({**line, "idempotency_key": f"{name}-{number}"}) for number in range(60)]
        (shell.folder / f"{name}.jsonl").write_text("\n".join(jobs))
    shell.run("submit", "first.jsonl")
    _kill("--role recall")
    told = lines(shell.run("submit", "first.jsonl", "--wait", "--json"))
    assert Counter(each["answer"]["recall"]["tier"] for each in told)["none"] == 1
    assert len(told) == 60
    told = lines(shell.run("submit", "second.jsonl", "--wait", "--json"))
    assert Counter(each["answer"]["recall"]["tier"] for each in told) == {"exact": 60}


def _kill(words: str) -> None:
    """With SIGKILL, the processes of ours with these words in their command line."""
    for process in psutil.Process(os.getpid()).children(recursive=True):
        if words in " ".join(process.cmdline()):
            process.send_signal(signal.SIGKILL)
