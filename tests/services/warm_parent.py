"""The process that has loaded what headrace's processes load, and forks them.

`python -m tests.services.warm_parent SOCKET PID` listens at that socket until the process of that number has ended.

A request is a line of JSON on a connection of its own: `argv`, `env`, `cwd`, and `files`, which are its standard input,
output and error. The answers are lines: the number of the process, and in the end its exit code and its CPU seconds.

A command that starts processes itself, as `headrace up` does, gets a parent of its own that forks them, and dies with
it: so they are its own as they would be.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tests.services.warm import Forked, can_be_forked

import headrace_producers
import headrace_workers
from headrace_workers.features.moderation.moderator import build_moderator, warm_up
from headrace_workers.runtime.embedded import child_processes

# What processes load only once they need it, beside all modules of ours. Nothing that starts threads: a fork would lack
# them.
_LOADED: Final = (
    "aiohttp",
    "anyio._backends._asyncio",
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.apps.worker",
    "celery.backends.base",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.concurrency.solo",
    "celery.concurrency.thread",
    "celery.events.receiver",
    "celery.fixups.django",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.consumer.delayed_delivery",
    "celery.worker.strategy",
    "email.headerregistry",
    "encodings.utf_8_sig",
    "kafka.admin",
    "kombu.transport.redis",
    "openai",
    "psycopg",
    "rich.console",
    "rich.table",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "uvicorn",
)
_STARTERS: Final = ("up", "run", "evaluate")  # commands that start processes
_WRITE: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_PR_SET_PDEATHSIG: Final = 1


def main(address: str, until: int) -> None:
    """Serve until this process has ended."""
    ours = (module.name for room in (headrace_producers, headrace_workers) for module in _modules_of(room))
    for name in (*_LOADED, *ours):
        importlib.import_module(name)
    warm_up(build_moderator())
    assert len(os.listdir("/proc/self/task")) == 1, threading.enumerate()
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{address}.new")
        listening.listen(64)
        os.rename(f"{address}.new", address)
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            _serve(listening, os.pidfd_open(until))
    shutil.rmtree(Path(address).parent, ignore_errors=True)


def _modules_of(package: ModuleType) -> Iterator[pkgutil.ModuleInfo]:
    """Yield the modules of a package, except programs and what loads CTranslate2, which reads its variables then."""
    packages = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return (row for row in packages if not row.name.rpartition(".")[2].startswith(("__main__", "ctranslate2_")))


def _serve(listening: socket.socket, ends: int | None = None) -> None:
    """Fork what is asked for, until the process of the descriptor `ends` has ended."""
    woken, waking = socket.socketpair()
    woken.setblocking(False)
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    forked: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(listening, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        if ends is not None:
            selector.register(ends, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj == ends:
                    return
                if key.fileobj is woken:
                    woken.recv(4_096)
                    _tell_ends(forked)
                    continue
                connection, _ = listening.accept()
                with connection.makefile("r") as lines:
                    line = lines.readline()
                if not line:  # who asked has died
                    connection.close()
                    continue
                request = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    for item in (listening, woken, waking, connection, *forked.values()):
                        item.close()
                    selector.close()
                    if ends is not None:
                        os.close(ends)
                    _become(request)
                forked[pid] = connection
                with contextlib.suppress(OSError):
                    connection.sendall(f"{pid}\n".encode())


def _tell_ends(forked: dict[int, socket.socket]) -> None:
    while forked:
        pid, status, used = os.wait4(-1, os.WNOHANG)
        if not pid:
            return
        with forked.pop(pid) as connection, contextlib.suppress(OSError):  # nobody wants to know
            seconds = used.ru_utime + used.ru_stime
            connection.sendall(f"{os.waitstatus_to_exitcode(status)} {seconds:.3f}\n".encode())


def _become(request: dict[str, Any]) -> None:
    """Be what `python -m` is. Does not return."""
    _belong()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, (file, how) in enumerate(zip(request["files"], (os.O_RDONLY, _WRITE, _WRITE), strict=True)):
        opened = os.open(file, how, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    module, *rest = request["argv"]
    if rest[:1] and rest[0] in _STARTERS:
        child_processes.subprocess = _Subprocess(_parent_of_its_own())  # type: ignore[assignment]
    sys.argv = [module, *rest]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        code = ended.code or 0
    # As the interpreter ends, except that nothing is freed: to touch all that was forked costs more than a command.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code & 0xFF)


def _belong() -> None:
    """Lead a group of one's own, and die with whoever has forked this."""
    parent = os.getppid()
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _parent_of_its_own() -> str:
    """Another process that forks, as this one was before it became anything; its address."""
    address = f"\0headrace-warm-{os.getpid()}"  # in no folder
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        if os.fork() == 0:
            _belong()
            _serve(listening)
    return address


class _Subprocess:
    """The module `subprocess` for `child_processes.start`, which forks what can be forked."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, argv: Sequence[str], **options: Any) -> Any:
        """As there."""
        if not can_be_forked(argv):
            return subprocess.Popen(argv, **options)
        return Forked(argv[2:], Path(options["stdout"].name), options["env"], at=self._address)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
