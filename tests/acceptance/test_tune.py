"""A stack serves the model that a job of Kafka tunes there."""

import json
import re
from pathlib import Path

import pytest
from tests.acceptance.conftest import lines, running
from tests.services.eventually import eventually
from tests.workers.features.tuning.tiny_base import examples, make_base, write_lines

from headrace_workers.features.tuning.recipe import SOURCES_FILE
from headrace_workers.testing import make_tiny_model

pytestmark = pytest.mark.acceptance


def test_a_broken_tuned_model_keeps_nobody_from_work_and_is_served_once_it_is_mended(tmp_path: Path) -> None:
    weights = make_tiny_model(tmp_path / ".headrace", "ft-tiny-broken") / "model.bin"
    weights.rename(tmp_path / "model.bin")
    with running(tmp_path, "--gateway-port", "0", HEADRACE_INTER_THREADS="1") as shell:
        (receipt,) = lines(shell.run("submit", "--prompt", "hello", "--wait", "--json"))
        assert receipt["answer"]["text"] == "hello"
        told = r"ft-tiny-broken ended with exit code \d+; see \S+generate-ft-tiny-broken.log; it is started again"
        eventually(lambda: re.search(told, (tmp_path / "up.log").read_text()))
        (tmp_path / "model.bin").rename(weights)
        job = ("--prompt", "hello", "--model", "ft-tiny-broken", "--max-tokens", "2")
        (receipt,) = lines(shell.run("submit", *job, "--wait", "--json"))
        assert receipt["answer"]["model"] == "ft-tiny-broken"
        assert "generate-ft-tiny-broken was started again" in shell.run("status")


@pytest.mark.slow
def test_a_job_of_kafka_tunes_a_model_that_answers(tmp_path: Path) -> None:
    home = tmp_path / ".headrace"
    make_base(home)
    (home / SOURCES_FILE).write_text('[sources]\ntiny = "source"\n')
    with running(tmp_path, "--gateway-port", "0", HEADRACE_INTER_THREADS="1") as shell:
        write_lines(tmp_path / "data.jsonl", examples(60))
        log = tmp_path / "up.log"
        (export,) = eventually(lambda: re.findall(r"^ *(export OPENAI_BASE_URL=.*)$", log.read_text(), re.MULTILINE))
        form = "-F purpose=fine-tune -F file=@data.jsonl"
        call = f'curl -sS "$OPENAI_BASE_URL/files" -H "Authorization: Bearer $OPENAI_API_KEY" {form}'
        file = json.loads(shell.shell(f"{export} && {call}").stdout)
        job = {"kind": "tuning", "model": "tiny", "training_file": file["id"], "learning_rate_multiplier": 50.0}
        write_lines(tmp_path / "job.jsonl", [job])
        (receipt,) = lines(shell.run("submit", "job.jsonl", "--wait", "--json"))
        (alias,) = receipt["tuned"]["aliases"]
        (answer,) = lines(shell.run("submit", "--prompt", "3 fig", "--model", alias, "--wait", "--json"))
        assert answer["answer"]["model"] == alias
        assert answer["answer"]["finish_reason"] in ("stop", "length")
        (run,) = lines(shell.run("tune", "list", "--json"))
        assert (run["status"], run["fine_tuned_model"]) == ("succeeded", alias)
        assert alias in shell.run("tune", "list", run["id"])
