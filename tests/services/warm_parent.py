"""The process that has loaded what headrace's processes load, and forks them: `python -m tests.services.warm_parent`.

A request is a line of JSON on a connection of its own: `argv`, `env`, `cwd`, `log`. The answers are lines: the number
of the process, and in the end its exit code.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from typing import Any, Final

# Nothing that starts threads, as numpy does: a fork would lack them.
_LOADED: Final = (
    "alembic.command",
    "celery.apps.worker",
    "celery.concurrency.prefork",
    "celery.concurrency.solo",
    "celery.concurrency.thread",
    "celery.fixups.django",
    "celery.worker.consumer",
    "headrace_workers.bridge.ingest",
    "headrace_workers.bridge.relay",
    "headrace_workers.cli.app",
    "headrace_workers.gateway.app",
    "headrace_workers.gateway.services",
    "headrace_workers.health",
    "headrace_workers.ledger.migrate",
    "headrace_workers.main.bridge",
    "headrace_workers.main.gateway",
    "headrace_workers.main.recall",
    "headrace_workers.main.worker",
    "kafka.admin",
    "kombu.transport.redis",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "uvicorn",
)
_PR_SET_PDEATHSIG: Final = 1


def main(address: str) -> None:
    """Serve until standard input ends, which is when whoever started this does."""
    for name in _LOADED:
        importlib.import_module(name)
    assert threading.active_count() == 1, threading.enumerate()
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{address}.new")
        listening.listen(64)
        os.rename(f"{address}.new", address)
        _serve(listening)


def _serve(listening: socket.socket) -> None:
    woken, waking = socket.socketpair()
    woken.setblocking(False)
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    forked: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(listening, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:  # nothing is ever sent there: it has ended
                    return
                if key.fileobj is woken:
                    woken.recv(4_096)
                    _tell_ends(forked)
                    continue
                connection, _ = listening.accept()
                with connection.makefile("r") as lines:
                    request = json.loads(lines.readline())
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    for each in (listening, woken, waking, connection, *forked.values()):
                        each.close()
                    selector.close()
                    _become(request)
                forked[pid] = connection
                connection.sendall(f"{pid}\n".encode())


def _tell_ends(forked: dict[int, socket.socket]) -> None:
    while forked:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with forked.pop(pid) as connection, contextlib.suppress(BrokenPipeError):  # nobody wants to know
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _become(request: dict[str, Any]) -> None:
    """Be what `python -m` is. Does not return."""
    parent = os.getppid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    gc.unfreeze()
    module, *rest = request["argv"]
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    main(sys.argv[1])
