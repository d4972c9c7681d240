"""Children: their logs, their readiness, and that they never outlive their parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from headrace_workers.runtime.embedded.child_processes import ChildFailed, ChildSpec, set_aside, start, started_at, stop

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
)


def gone(pid: int) -> bool:
    """Whether a process ends; waits for it, a zombie counts as ended."""
    try:
        process = psutil.Process(pid)
        psutil.wait_procs([process], timeout=120)
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_what_a_child_says_is_in_its_log(tmp_path):
    argv = (sys.executable, "-c", "import os, sys; print(os.environ['GREETING']); sys.exit('bye')")
    child = start(ChildSpec(name="talker", argv=argv, env={"GREETING": "hello"}), tmp_path)
    child.process.wait(120)
    assert (tmp_path / "talker.log").read_text() == "hello\nbye\n"


def test_a_child_that_ends_before_it_is_ready_is_an_error(tmp_path):
    spec = ChildSpec(name="short", argv=(sys.executable, "-c", "raise SystemExit(3)"), ready=lambda: False)
    with pytest.raises(ChildFailed, match=r"exit code 3; see .*short\.log"):
        start(spec, tmp_path)


def test_what_it_said_last_is_told(tmp_path):
    program = "def f():\n    raise ValueError('the port is taken')\nf()"
    with pytest.raises(ChildFailed, match=r"exit code 1: ValueError: the port is taken; see .*broken\.log"):
        start(ChildSpec(name="broken", argv=(sys.executable, "-c", program), ready=lambda: False), tmp_path)


def test_a_child_that_never_gets_ready_is_stopped(tmp_path):
    pids: list[str] = []
    argv = (sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    log = tmp_path / "slow.log"
    with pytest.raises(ChildFailed, match="not ready after 1 s"):
        start(ChildSpec(name="slow", argv=argv, ready=lambda: False, ready_seconds=1.0), tmp_path)
    pids = log.read_text().split()
    assert all(gone(int(pid)) for pid in pids)


def test_a_program_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ChildFailed, match="/no/such/program"):
        start(ChildSpec(name="none", argv=("/no/such/program",)), tmp_path)


def test_a_stubborn_child_is_killed_after_its_grace(tmp_path):
    log = tmp_path / "stubborn.log"
    spec = ChildSpec(
        name="stubborn", argv=STUBBORN, grace_seconds=0.2, ready=lambda: log.exists() and "up" in log.read_text()
    )
    child = start(spec, tmp_path)
    stop(child)
    assert child.process.returncode == -signal.SIGKILL


def test_grandchildren_go_too(tmp_path):
    program = f"""
import subprocess, time
print(subprocess.Popen({SLEEP!r}).pid, flush=True)
time.sleep(600)
"""
    log = tmp_path / "family.log"
    child = start(
        ChildSpec(
            name="family",
            argv=(sys.executable, "-c", program),
            ready=lambda: log.exists() and log.read_text().endswith("\n"),
        ),
        tmp_path,
    )
    stop(child)
    assert gone(int(log.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal of a dying parent is Linux's")
def test_a_killed_parent_takes_its_children_along(tmp_path):
    program = f"""
from pathlib import Path
from headrace_workers.runtime.embedded.child_processes import ChildSpec, start
child = start(ChildSpec(name="child", argv={SLEEP!r}), Path({str(tmp_path)!r}))
print(child.process.pid, flush=True)
child.process.wait()
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    assert gone(pid)


def test_a_large_log_is_put_aside(tmp_path: Path):
    log = tmp_path / "x.log"
    (tmp_path / "x.log.1").write_text("older")
    log.write_text("12345")
    set_aside(log, limit=5)
    assert log.read_text() == "12345"
    set_aside(log, limit=4)
    assert not log.exists()
    assert (tmp_path / "x.log.1").read_text() == "12345"


def test_id_and_start_name_a_process(tmp_path):
    child = start(ChildSpec(name="sleeper", argv=SLEEP), tmp_path)
    first = started_at(child.process.pid)
    assert first is not None
    assert first == started_at(child.process.pid)
    assert started_at(os.getpid()) is not None
    stop(child)
    assert started_at(child.process.pid) is None
