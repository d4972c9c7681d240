"""Processes of headrace that begin with everything loaded: forked from one that has imported it, once for a whole run.

Hundreds of bridges, workers and commands are started, and loading Python's modules would be most of what each of them
costs. What begins is a process like any other, with its arguments, environment and log, in a group of its own, and it
runs the module that `python -m` would run. Tests of the start itself start the program.
"""

import fcntl
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final, cast

from headrace_workers.runtime.embedded import child_processes
from headrace_workers.runtime.embedded.child_processes import Child, ChildFailed, ChildSpec, last_words, set_aside, stop

CPU_SECONDS: Final[list[float]] = []  # of each process that was forked for this one, and has ended
PROGRAM: Final = (sys.executable, "-m", "headrace_workers")


def start(spec: ChildSpec, log_folder: Path) -> Child:
    """As `child_processes.start`, and just that for other programs than `python -m`, and on other systems than Linux.

    A file of Python may change modules before others load them, which is too late in a process that has them.
    """
    if not can_be_forked(spec.argv):
        return child_processes.start(spec, log_folder)
    if spec.prepare:
        spec.prepare()
    log_folder.mkdir(parents=True, exist_ok=True)
    log = log_folder / f"{spec.name}.log"
    set_aside(log)
    forked = Forked(spec.argv[2:], log, {**os.environ, **(spec.env or {})})
    child = Child(spec, cast("subprocess.Popen[bytes]", forked), log)
    until = time.monotonic() + spec.ready_seconds
    while spec.ready is not None and not spec.ready():
        if not child.running or time.monotonic() > until:
            stop(child)
            raise ChildFailed(f"{spec.name} is not ready{last_words(log)}; see {log}")
        time.sleep(0.02)
    return child


def can_be_forked(argv: Sequence[str]) -> bool:
    """Whether this is `python -m MODULE …`, on Linux."""
    return sys.platform == "linux" and tuple(argv[:2]) == (sys.executable, "-m")


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,
    given: str | None = None,
    at: str | None = None,
) -> "subprocess.CompletedProcess[str]":
    """As `subprocess.run` with `capture_output` and `text`, for what can be forked; `given` is its standard input."""
    with tempfile.TemporaryDirectory(prefix="headrace-warm-") as name:
        out, errors, read = (Path(name) / item for item in ("out", "errors", "in"))
        read.write_text(given or "", encoding="utf-8")
        process = Forked(argv[2:], out, env, errors=errors, read=read, cwd=cwd, at=at)
        try:
            code = process.wait(timeout)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(argv, code, out.read_text(), errors.read_text())


def write_command(folder: Path, at: str | None = None) -> None:
    """Write a program `headrace` for a shell's PATH that has the process at this address fork what it is to run."""
    program = folder / "headrace"
    told = _ASKS.format(python=sys.executable, address=at or _address())
    program.write_text(told if sys.platform == "linux" else f'#!/bin/sh\nexec {" ".join(PROGRAM)} "$@"\n')
    program.chmod(0o755)


_ASKS: Final = """#!{python} -IS
import json, os, socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect({address!r})
files = [f"/proc/{{os.getpid()}}/fd/{{number}}" for number in range(3)]
request = {{"argv": ["headrace_workers", *sys.argv[1:]], "env": dict(os.environ), "cwd": os.getcwd(), "files": files}}
asked.sendall(json.dumps(request).encode() + b"\\n")
lines = asked.makefile("r")
lines.readline()
sys.exit(int((lines.readline() or "137").split()[0]))
"""


class Forked:
    """What is used of `subprocess.Popen`, for a process that another one has forked.

    Its output goes to `log`, and its standard error, too, where there are no `errors`; `read` is its standard input.
    `at` is the address of the process that forks.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str],
        *,
        errors: Path | None = None,
        read: Path | None = None,
        cwd: Path | None = None,
        at: str | None = None,
    ) -> None:
        log.touch()
        self._told = socket.socket(socket.AF_UNIX)
        self._told.connect(at or _address())
        request = {
            "argv": list(argv),
            "env": dict(env),
            "cwd": str(cwd or Path.cwd()),
            "files": [str(read or os.devnull), str(log), str(errors or log)],
        }
        self._told.sendall(json.dumps(request).encode() + b"\n")
        self._lines = self._told.makefile("r")
        self.pid = int(self._lines.readline())
        self.returncode: int | None = None
        self._asking = threading.Lock()

    def poll(self) -> int | None:
        """Its exit code, the signal's number below zero; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended. Raises TimeoutExpired."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("headrace", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """A signal to it alone; one that has ended is no error, also where that is not told yet."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, seconds: float | None) -> int | None:
        with self._asking:
            if self.returncode is None and _readable(self._told, seconds):
                line = self._lines.readline() or f"{-signal.SIGKILL} 0"  # nothing: it died with its parent
                code, seconds = line.split()
                self.returncode = int(code)
                CPU_SECONDS.append(float(seconds))
                self._told.close()
            return self.returncode


def _readable(connection: socket.socket, seconds: float | None) -> bool:
    """Whether there is something to read within that time. `select.select` takes no descriptor above 1,023."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(seconds))


@cache
def _address() -> str:
    """Where the process that forks listens. The processes of a parallel run share one, which ends with the run: with
    the process that has started them all, and with this one where it runs alone.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    folder = Path(_TEMPORARY) / f"headrace-warm-{run}" if run else Path(tempfile.mkdtemp(prefix="headrace-warm-"))
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "socket").exists():
            begin(folder, os.getppid() if run else os.getpid())
    return str(folder / "socket")


def begin(folder: Path, until: int, **variables: str) -> str:
    """Start a process that forks, to end with the process `until`, and wait until it listens; its address."""
    argv = [sys.executable, "-m", "tests.services.warm_parent", str(folder / "socket"), str(until)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **variables}  # else numpy starts threads
    with (folder / "log").open("wb") as output:
        parent = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=env
        )
    _KEPT.append(parent)
    while not (folder / "socket").exists():
        assert parent.poll() is None, (folder / "log").read_text()
        time.sleep(0.02)
    return str(folder / "socket")


_KEPT: Final[list[object]] = []
_TEMPORARY: Final = tempfile.gettempdir()  # of now: tests set others
