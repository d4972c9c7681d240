"""`headrace submit` that stops to wait: what was published goes on, and that is said."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.services import warm
from tests.services.eventually import eventually
from tests.services.interrupts import hear_interrupts
from tests.services.kafka import KafkaServer
from tests.services.records import read
from tests.services.tables import sqlite_tables
from tests.slow import slow_after_first

from headrace_producers import KafkaSettings
from headrace_producers.admin import ensure_topics
from headrace_schemas import Topic
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.ledger import Fact, Ledger
from headrace_workers.runtime.bridge.partitions import Partitions


@pytest.mark.parametrize("count", slow_after_first([1, 3]))
def test_ctrl_c_while_receipts_are_waited_for_says_that_jobs_go_on(
    tmp_path: Path, embedded_kafka: KafkaServer, fresh_prefix: str, count: int
) -> None:
    kafka = embedded_kafka.settings(fresh_prefix)
    ensure_topics(kafka, partitions=1)
    (tmp_path / "jobs.jsonl").write_text('{"prompt": "a", "model": "echo"}\n' * count)
    environment = _environment(kafka)
    with subprocess.Popen(
        [sys.executable, "-m", "headrace_workers", "submit", "jobs.jsonl", "--wait"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,  # noqa: PLW1509 - it takes no lock
    ) as process:
        assert process.stderr is not None
        waits = process.stderr.readline().strip()  # it is said once all is published
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130, said
    if count == 1:
        assert f"interrupted; the job goes on: `headrace status {waits}`" in said
    else:
        assert (waits, "interrupted: 3 of 3 jobs were published; jobs that have not ended go on" in said) == (
            "3 published, waiting for the receipts",
            True,
        )
    assert len(read(kafka, [Topic.GENERATION])) == count


def test_a_wait_that_took_too_long_names_the_command_that_shows_the_job(
    tmp_path: Path, embedded_kafka: KafkaServer, fresh_prefix: str
) -> None:
    kafka = embedded_kafka.settings(fresh_prefix)
    ensure_topics(kafka, partitions=1)
    wait = ("submit", "-p", "a", "--model", "echo", "--wait", "--timeout", "0.1")
    done = _run(tmp_path, _environment(kafka), *wait)
    (waits, *said) = done.stderr.splitlines()
    assert (done.returncode, said[-1].strip()) == (1, f"headrace status {waits}")


def _run(tmp_path: Path, environment: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    return warm.run([*warm.PROGRAM, *words], cwd=tmp_path, env=environment, timeout=240)


def test_topics_that_no_bridge_has_read_are_told_of(
    tmp_path: Path, apache_kafka: KafkaServer, fresh_prefix: str
) -> None:
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka, partitions=1)
    submit = ("submit", "-p", "a", "--model", "echo")
    unread = _run(tmp_path, _environment(kafka), *submit)
    assert (unread.returncode, len(unread.stdout.split())) == (0, 1)
    assert f"warning: no bridge has read the topics {fresh_prefix}*" in unread.stderr
    with closing(Ledger.at(sqlite_tables(tmp_path / "ledger.db"))) as ledger:
        bridge = Partitions(kafka, ledger, "a", SystemClock())
        eventually(lambda: bridge.open() and bridge._compared)
        bridge.close()
    assert _run(tmp_path, _environment(kafka), *submit).stderr == ""


@pytest.mark.parametrize("words", [("submit", "-p", "a"), ("cancel", "some"), ("init",)])
def test_topics_of_another_prefix_than_the_ledgers_are_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Before anything is published or made, since the bridges of this ledger would not read it."""
    environment = _of_another_prefix(tmp_path)
    done = _run(tmp_path, environment, *words)
    assert done.returncode != 0
    assert "the ledger belongs to the topics that begin with 'ours.'" in done.stderr


def test_status_says_that_the_prefix_is_not_the_ledgers(tmp_path: Path) -> None:
    done = _run(tmp_path, _of_another_prefix(tmp_path), "status", "--json")
    assert done.returncode == 0
    assert "warning: the ledger belongs to the topics that begin with 'ours.'" in done.stderr


def _of_another_prefix(tmp_path: Path) -> dict[str, str]:
    url = sqlite_tables(tmp_path / "ledger.db")
    with closing(Ledger.at(url)) as ledger:
        ledger.deployment.state(Fact.PREFIX, "ours.")
    return _environment(KafkaSettings.at("127.0.0.1:1", "theirs.")) | {"HEADRACE_LEDGER": url}


def _environment(kafka: KafkaSettings) -> dict[str, str]:
    there = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return there | {"HEADRACE_KAFKA": kafka.address, "HEADRACE_TOPIC_PREFIX": kafka.prefix}
