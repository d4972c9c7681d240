"""`headrace run` that is killed, interrupted and stopped, and goes on."""

import json
import os
import signal

import pytest
from tests.acceptance.conftest import WITH_A_LOG
from tests.services.eventually import eventually
from tests.services.provider import Portions, providing
from tests.workers.models.engines.remote_models import catalogue

pytestmark = pytest.mark.acceptance


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_answers_nothing_twice(shell):
    jobs = [{"prompt": str(number)} for number in range(240)]
    shell.env |= {"HEADRACE_MODEL": "far", **WITH_A_LOG}
    (shell.folder / "in.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    out = shell.folder / "out.jsonl"
    before: list[bytes] = []
    portions = Portions()
    with providing(portions) as provider:
        # However fast the machine is, a run has more lines than it gets answers for.
        catalogue(shell.folder / ".headrace", "openai", provider.url, open_calls=16, first_token=600.0, total=600.0)
        for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
            portions.allow(40)
            run, enough = shell.start("run", "in.jsonl", "-o", "out.jsonl"), len(before) + 20
            eventually(lambda enough=enough: out.exists() and out.read_bytes().count(b"\n") >= enough, 600)
            os.kill(run.pid, number)
            portions.answer_those_that_wait()
            run.wait(300)
            written = out.read_bytes().rsplit(b"\n", 1)[0].splitlines()
            assert written[: len(before)] == before
            assert len(written) < len(jobs)
            before = written
        portions.allow(2 * len(jobs))
        shell.run("run", "in.jsonl", "-o", "out.jsonl")
        portions.answer_those_that_wait()
    after = out.read_bytes().splitlines()
    assert after[: len(before)] == before
    assert sorted(json.loads(line)["line"] for line in after) == list(range(1, len(jobs) + 1))
