"""A feature is its own folder and its value in `FEATURES`: the sample feature works in a copy of the product."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from kafka import KafkaConsumer, TopicPartition
from tests.acceptance.conftest import Shell, lines, running
from tests.services import warm

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "producers", "workers")
SAMPLE = Path(__file__).parent / "readability"
EVENT = "headrace.readability.measured.v1"
VARIABLE = "HEADRACE_LONGEST_SENTENCE"
TEXT = "One two three. Four five six seven."


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product with the sample feature in it."""
    copy = tmp_path_factory.mktemp("extended")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package)  # with its bytecode: each process would compile all of it
    workers = copy / "workers" / "headrace_workers"
    shutil.copytree(SAMPLE, workers / "features" / SAMPLE.name, ignore=shutil.ignore_patterns("__pycache__"))
    features = workers / "wiring" / "features.py"
    text = features.read_text("utf-8")
    for added, before in (
        (
            "from headrace_workers.features.readability.feature import FEATURE as READABILITY\n",
            "from headrace_workers.feat",
        ),
        ("    READABILITY,\n", "    DATASETS,\n"),
    ):
        assert before in text
        text = text.replace(before, added + before, 1)
    features.write_text(text, "utf-8")
    return copy


def path_of(copy: Path) -> str:
    """The PYTHONPATH of a copy of the product."""
    return os.pathsep.join(str(copy / package) for package in PACKAGES)


@pytest.mark.slow
def test_the_copy_keeps_to_the_layout(extended: Path) -> None:
    (extended / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "test_layout.py", extended / "tests")
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "tests"],
        cwd=extended,
        env={
            **os.environ,
            "PYTHONPATH": path_of(extended),
            "PYTEST_ADDOPTS": "",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout


@pytest.fixture(scope="module")
def stack(extended: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A running `headrace up` that has the feature; sentences of four words are long in it."""
    folder = tmp_path_factory.mktemp("stack")
    path = path_of(extended)
    at = warm.begin(tmp_path_factory.mktemp("warm"), os.getpid(), PYTHONPATH=os.pathsep.join((path, str(ROOT))))
    with running(folder, at=at, PYTHONPATH=path, **{VARIABLE: "3"}) as shell:
        yield shell


@pytest.fixture(scope="module")
def job_id(stack: Shell) -> str:
    """A job that asked for the stage, and has ended."""
    job = {"prompt": TEXT, "metadata": {"readability": "yes"}}
    (stack.folder / "jobs.jsonl").write_text(json.dumps(job) + "\n")
    (receipt,) = lines(stack.run("submit", "jobs.jsonl", "--wait", "--json"))
    assert [stage["stage"] for stage in receipt["stages"]] == ["generate", "moderate", "readability", "judge"]
    return str(receipt["job_id"])


def addresses(stack: Shell) -> dict[str, Any]:
    """Where the services of a stack are."""
    found: dict[str, Any] = json.loads((stack.folder / ".headrace" / "run.json").read_text())
    return found


def test_a_job_that_does_not_ask_passes_the_stage_over(stack: Shell) -> None:
    (receipt,) = lines(stack.run("submit", "--prompt", "hello", "--wait", "--json"))
    assert [stage["stage"] for stage in receipt["stages"]] == ["generate", "moderate", "judge"]


def test_the_row_is_in_the_table_of_the_feature(stack: Shell, job_id: str) -> None:
    with sqlite3.connect(stack.folder / ".headrace" / "ledger.db") as ledger:
        rows = ledger.execute("SELECT job_id, sentences, long_sentences FROM readability").fetchall()
    assert rows == [(job_id, 2, 1)]


def test_the_event_is_published(stack: Shell, job_id: str) -> None:
    consumer = KafkaConsumer(bootstrap_servers=addresses(stack)["kafka"], consumer_timeout_ms=60_000)
    topic = "headrace.moderated"
    consumer.assign([TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)])
    consumer.seek_to_beginning()
    found = next(record for record in consumer if dict(record.headers)["ce_type"] == EVENT.encode())
    consumer.close()
    assert dict(found.headers)["ce_subject"] == job_id.encode()
    assert json.loads(found.value)["long_sentences"] == 1


def test_the_event_is_in_the_exported_contract(stack: Shell) -> None:
    stack.run("schema", "export", "contract")
    schema = json.loads((stack.folder / "contract" / f"{EVENT}.schema.json").read_text())
    assert "long_sentences" in schema["required"]
    assert "ReadabilityMeasured" in (stack.folder / "contract" / "asyncapi.json").read_text()


def test_the_route_answers_the_tenant_alone(stack: Shell, job_id: str) -> None:
    gateway = next(line for line in (stack.folder / "up.log").read_text().splitlines() if "OPENAI_BASE_URL" in line)
    url = gateway.partition("OPENAI_BASE_URL=")[2].split()[0]
    key = stack.shell(f"{gateway.strip()}; echo $OPENAI_API_KEY").stdout.strip()
    assert asked(f"{url}/jobs/{job_id}/readability", key) == (
        200,
        {"job_id": job_id, "sentences": 2, "long_sentences": 1},
    )
    unknown = job_id.translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))
    status, problem = asked(f"{url}/jobs/{unknown}/readability", key)
    assert (status, problem["detail"]) == (404, "the readability of this job was not measured")
    assert asked(f"{url}/jobs/{job_id}/readability", "wrong")[0] == 401


def asked(url: str, key: str) -> tuple[int, dict[str, Any]]:
    """Status and body of what a gateway answers to GET."""
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


def test_the_command_prints(stack: Shell, job_id: str) -> None:
    assert lines(stack.run("readability", "--json")) == [{"job_id": job_id, "sentences": 2, "long_sentences": 1}]
    assert job_id in stack.run("readability")


def test_the_feature_stands_on_the_generated_pages(stack: Shell, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.reference.pages", str(tmp_path)]
    warm.run(command, cwd=ROOT, env=stack.environment, timeout=600, at=stack.at)
    (row,) = [line for line in (tmp_path / "configuration.md").read_text().splitlines() if f"`{VARIABLE}`" in line]
    assert row == (
        f"| `{VARIABLE}` | 25 | Words that a sentence may have before it counts as long.<br>"
        "*Value: a whole number above 0 and up to 1,000. Read by: workers.* |"
    )
    reference = tmp_path / "reference"
    assert "## `headrace readability`\n" in (reference / "cli.md").read_text()
    assert "### GET /v1/jobs/{job_id}/readability\n" in (reference / "http.md").read_text()
    assert "## headrace.readability.measured.v1\n" in (reference / "events.md").read_text()


def test_a_wrong_value_is_named(stack: Shell) -> None:
    wrong = Shell(stack.folder, {**stack.env, VARIABLE: "0"}, at=stack.at)
    assert VARIABLE in wrong.words("worker", "--role", "readability", code=2)
