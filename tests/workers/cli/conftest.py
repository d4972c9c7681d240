import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.services.tables import sqlite_tables

from headrace_schemas import (
    Answer,
    Category,
    DeadLetter,
    Finding,
    JobCancelled,
    JudgeVerdict,
    ModerationVerdict,
    Result,
    Score,
    StageRecord,
    Usage,
)
from headrace_workers.cli.receipts import Receipt
from headrace_workers.cli.streams import guard
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.wiring.command_line import run

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def job_id(number: int) -> str:
    return f"00000000-0000-5000-8000-{number:012d}"


def stage(name: str, *, ran_ms: float = 10.0, group: int = 1, attempt: int = 1) -> StageRecord:
    return StageRecord(stage=name, attempt=attempt, waited_ms=5.0, ran_ms=ran_ms, group_size=group)


def result(number: int, line: int | None = None, text: str | None = "An answer.", **fields: object) -> Receipt:
    finding = Finding(category="email", detector="d", score=1.0, start=0, end=3, action="redact")
    values: dict[str, object] = {
        "job_id": job_id(number), "tenant": "default", "status": "completed", "kind": "generation",
        "answer": Answer(text=text, finish_reason="stop", model="tiny", quantization="int8",
                         usage=Usage(prompt_tokens=7, completion_tokens=3)),
        "moderation": ModerationVerdict(action="redact", findings=(finding,)),
        "judge": JudgeVerdict(
            scores=(
                Score(criterion="f1", value=0.5),
                Score(criterion="rubric", not_judged="no_model", reason="no judge"),
            )
        ),
        "stages": (stage("generate"), stage("moderate"), stage("judge")),
        "accepted_at": NOW, "total_ms": 1234.5,
    }  # fmt: skip
    return Receipt(Result.model_validate(values | fields), line)


def dead(number: int | None, line: int | None = None, reason: str = "too long") -> Receipt:
    letter = DeadLetter(
        job_id=None if number is None else job_id(number), category=Category.PERMANENT, reason=reason,
        stage="generate", attempts=1, topic="jobs.generation", size=2, original="{}", encoding="utf-8",
    )  # fmt: skip
    return Receipt(letter, line)


def cancelled(number: int, line: int | None = None) -> Receipt:
    return Receipt(JobCancelled(job_id=job_id(number), tenant="default", reason="no need"), line)


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    older_threads: set[threading.Thread],
) -> Iterator[Call]:
    """Runs a command in an empty folder without any stack: exit code, standard output, standard error. Threads that
    earlier tests have left are no part of the command: their logs are not among what it says.

    A command's process would close its ledgers by ending; hundreds of tests would keep a thousand files open.
    """
    opened: list[Ledger] = []
    at = Ledger.at

    def opened_at(*arguments: Any, **options: Any) -> Ledger:
        opened.append(at(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(Ledger, "at", opened_at)
    emit = logging.StreamHandler.emit

    def emit_of_this_test(handler: logging.StreamHandler[Any], record: logging.LogRecord) -> None:
        # The garbage collector may find tasks of an earlier test's loop at any time, and asyncio logs each.
        if threading.current_thread() not in older_threads and record.name != "asyncio":
            emit(handler, record)

    monkeypatch.setattr(logging.StreamHandler, "emit", emit_of_this_test)
    monkeypatch.setattr("headrace_workers.cli.connections.REDIS_SECONDS", 60.0)  # a busy machine's takes its time
    monkeypatch.chdir(tmp_path)
    for name in ("KAFKA", "REDIS", "LEDGER", "HOME", "MODEL", "TENANT"):
        monkeypatch.delenv(f"HEADRACE_{name}", raising=False)

    def invoke(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        written = capfd.readouterr()
        return code, written.out, written.err

    yield invoke
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    (tmp_path / ".headrace").mkdir()
    ledger = Ledger.at(sqlite_tables(tmp_path / ".headrace" / "ledger.db"))
    yield ledger
    ledger.close()


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """`with full_disk(): …` is the time in which standard output is a full disk, as `> /dev/full` makes it."""

    @contextmanager
    def full() -> Iterator[None]:
        kept = os.dup(1)
        with Path("/dev/full").open("wb") as disk, monkeypatch.context() as patch:
            os.dup2(disk.fileno(), 1)
            patch.setattr(sys, "stdout", sys.stdout)
            guard()
            try:
                yield
            finally:
                os.dup2(kept, 1)
                os.close(kept)

    return full
