"""A real server for tests, which can be killed and started again on the same port and data."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Final

from headrace_workers.runtime.embedded.child_processes import Child, ChildSpec, start, stop

# What is made once for all runs, in the user's cache folder.
KEPT: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headrace-tests"


class Server:
    """A process behind an address. `start` before use; `stop` at the end."""

    def __init__(self, spec: ChildSpec, folder: Path) -> None:
        self._spec = replace(spec, ready_seconds=300.0)  # a busy machine is slow, which says nothing about the server
        self._folder = folder
        self._child: Child | None = None

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self._folder

    @property
    def pid(self) -> int:
        """The process that serves."""
        assert self._child is not None
        return self._child.process.pid

    def freeze(self) -> None:
        """SIGSTOP, and wait until it has stopped: the signal is on its way for a moment, in which it still answers."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._child is not None and self._child.running

    def start(self) -> "Server":
        """Start it and wait until it answers."""
        self._child = start(self._spec, self._folder / "log")
        return self

    def kill(self) -> None:
        """SIGKILL to the whole group, as a power cut would."""
        assert self._child is not None
        os.killpg(self._child.process.pid, signal.SIGKILL)
        self._child.process.wait()

    def restart(self) -> None:
        """Stop it if it runs, and start it again on the same port and data."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; one that is frozen is let go on, to hear it. Stopping twice does nothing."""
        if self._child is not None:
            if self.running:
                self.thaw()
            stop(self._child)
            self._child = None
