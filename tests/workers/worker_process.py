"""A worker as a process of its own, over a real Redis and a ledger in a file."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.services.redis import RedisServer
from tests.services.warm import start

from headrace_workers.runtime.embedded.child_processes import Child, ChildSpec, stop
from headrace_workers.testing import make_echo_model


class Worker:
    """`headrace worker` with these roles; it serves the model `echo`."""

    def __init__(self, child: Child) -> None:
        self._child = child

    @property
    def log(self) -> str:
        return self._child.log.read_text()

    @property
    def running(self) -> bool:
        return self._child.running

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._child.process.kill()
        self._child.process.wait()

    def terminate(self) -> None:
        self._child.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        return self._child.process.wait(seconds)


@contextmanager
def worker(
    folder: Path,
    redis: RedisServer,
    *roles: str,
    concurrency: int | None = None,
    program: Sequence[str] = ("-m", "headrace_workers"),
    model: str | None = "echo",
    **env: str,
) -> Iterator[Worker]:
    """Start it, as the command line or another program of its kind; it is gone at the end. It holds this model, which
    its home has, or without one asks all of its catalogue; `echo` is there in any case.
    """
    make_echo_model(folder)
    argv = [sys.executable, *program, "worker", *(["--remote"] if model is None else ["--model", model])]
    argv += ["--concurrency", str(concurrency)] if concurrency else []
    known = {
        "HEADRACE_HOME": str(folder), "HEADRACE_KAFKA": "localhost:1", "HEADRACE_REDIS": redis.url,
        "HEADRACE_LEDGER": f"sqlite:///{folder / 'ledger.db'}", "HEADRACE_LEASE": "5", "TMPDIR": str(folder),
    }  # fmt: skip
    spec = ChildSpec(name="worker", argv=argv + [part for role in roles for part in ("--role", role)],
                     env=known | env, grace_seconds=1)  # fmt: skip
    child = start(spec, folder)
    try:
        yield Worker(child)
    finally:
        stop(child)
