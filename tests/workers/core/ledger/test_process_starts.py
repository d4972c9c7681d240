import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update
from tests.services.eventually import eventually

from headrace_workers.core.ledger.incidents import noted_start
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import PROCESS_STARTS

# Starts a process for each command that it reads: one that runs until it gets a signal.
STARTER = """
import os, signal, sys
from headrace_workers.core.ledger.incidents import noted_start
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for what in sys.stdin:
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        with noted_start(sys.argv[1], what.strip()):
            print(os.getpid(), flush=True)
            signal.pause()
"""
JUDGE, SEVERAL = "worker --role judge", "worker --role judge --role moderate"


@pytest.fixture
def start(ledger_url: str) -> Iterator[Callable[[str], int]]:
    """Starts a process of a command; its id."""
    pids: list[int] = []
    command = [sys.executable, "-c", STARTER, ledger_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None

        def started(what: str) -> int:
            starter.stdin.write(f"{what}\n")
            pids.append(int(starter.stdout.readline()))
            return pids[-1]

        yield started
        for pid in filter(lives, pids):
            os.kill(pid, signal.SIGKILL)
        starter.stdin.close()


def lives(pid: int) -> bool:
    """Whether there is a process with this id."""
    return Path(f"/proc/{pid}").exists()


def end(pid: int, by: signal.Signals = signal.SIGKILL) -> None:
    """End a process, and wait until it is gone."""
    os.kill(pid, by)
    eventually(lambda: not lives(pid))


def age(ledger, minutes: float) -> None:
    """Let all kills be older by so many minutes."""
    with writing(ledger.engine) as tx:
        tx.execute(update(PROCESS_STARTS).values(killed_at=PROCESS_STARTS.c.killed_at - int(minutes * 60_000)))


def named(ledger) -> dict[str, str]:
    """The reasons that `status` and `doctor` show, by command."""
    return {incident.subject: incident.reason for incident in ledger.overview().incidents}


@pytest.mark.integration
def test_a_process_that_is_killed_again_and_again_is_named_with_the_bound_to_raise(ledger, start):
    beside, last = start(JUDGE), start(JUDGE)
    for _ in range(3):
        assert named(ledger) == {}
        end(last)
        last = start(JUDGE)
    reason = named(ledger)["headrace worker --role judge"]
    assert "it was killed 3 times in half an hour, and started again" in reason
    assert "raise the limit of its memory (HEADRACE_JUDGE_MEMORY in the .env of the compose file)" in reason
    end(last, signal.SIGTERM)
    end(beside, signal.SIGTERM)
    assert named(ledger) == {}


@pytest.mark.integration
def test_kills_are_over_when_the_next_one_is_late(ledger, start):
    for _ in range(3):
        end(start(JUDGE))
    start(JUDGE)
    for minutes, is_over in ((0.5, False), (1.1, True)):
        age(ledger, minutes)
        (incident,) = ledger.overview().incidents
        assert incident.is_over is is_over
    assert "killed 3 times in half an hour, the last time 1 min ago, and has run since" in incident.reason
    with writing(ledger.engine) as tx:  # five minutes between two
        first, *_ = tx.execute(select(PROCESS_STARTS.c.name).where(PROCESS_STARTS.c.killed_at.is_not(None))).scalars()
        older = PROCESS_STARTS.c.killed_at - 600_000
        tx.execute(update(PROCESS_STARTS).where(PROCESS_STARTS.c.name == first).values(killed_at=older))
    age(ledger, 3)
    assert [item.is_over for item in ledger.overview().incidents] == [False]
    age(ledger, 1)
    assert [item.is_over for item in ledger.overview().incidents] == [True]


@pytest.mark.integration
def test_kills_are_counted_by_command_and_for_half_an_hour(ledger, start):
    for _ in range(3):
        end(start(JUDGE), signal.SIGTERM)
        end(start(SEVERAL))
    start(JUDGE)
    start(SEVERAL)
    assert named(ledger).keys() == {f"headrace {SEVERAL}"}
    assert named(ledger)[f"headrace {SEVERAL}"].endswith("raise the limit of its memory")
    age(ledger, 30.001)
    assert named(ledger) == {}
    start(JUDGE)
    assert {row.killed_at for row in ledger.read(select(PROCESS_STARTS.c.killed_at))} == {None}


@pytest.mark.integration
def test_a_ledger_that_does_not_answer_stops_no_process():
    """The note is a hint for people."""
    with noted_start("postgresql+psycopg://nobody@127.0.0.1:9/none", JUDGE):
        pass
