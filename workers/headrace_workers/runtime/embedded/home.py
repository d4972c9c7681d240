"""The home of a stack: its faults in words, and its lock for one stack, which is released when its owner dies."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

from headrace_producers.settings import LOCK_FILE
from headrace_schemas.errors import ConfigurationError, HeadraceError, Unavailable
from headrace_workers.core.private_files import keep_private, opened_privately, write_atomically
from headrace_workers.runtime.embedded.child_processes import Child, kill_group, started_at

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TOO_LITTLE = 1_000_000  # bytes: not even the lists and logs of a stack can be written then


def unusable(home: Path, error: OSError) -> HeadraceError:
    """Return an error of the file system as one for people: where, what, and what to do."""
    where = error.filename or home
    if error.errno in _FULL:
        return Unavailable(f"no space is left for {where} ({error.strerror}): make room, and start again")
    return ConfigurationError(
        f"{where} cannot be written ({error.strerror}), and {home} must be a folder that this user can write: set "
        "HEADRACE_HOME to one"
    )


def obstacle(home: Path) -> str | None:
    """Return the obstacle that stops every process of this home, a full disk; None if there is room."""
    try:
        free = shutil.disk_usage(home).free
    except OSError as error:
        return f"{home} cannot be looked at ({error.strerror})"
    return f"no space is left on the disk of {home}: make room" if free < _TOO_LITTLE else None


CHILDREN_FILE = "children.json"


class AlreadyRunning(HeadraceError):
    """Another stack runs in this home."""


class HomeLock:
    """Lock of a home. The kernel releases it when the process ends, in whatever way: no lock is ever stale."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file: IO[str] | None = None

    @property
    def held(self) -> bool:
        """Return True if this process holds the home."""
        return self._file is not None

    def acquire(self) -> Self:
        """Take the home and end what an earlier owner left running there; AlreadyRunning names the present one."""
        try:
            keep_private(self._home)
            self._file = self._take(open(self._home / LOCK_FILE, "a+", encoding="utf-8", opener=opened_privately))  # noqa: SIM115
            end_leftovers(self._home)
        except OSError as error:
            self.release()
            raise unusable(self._home, error) from error
        return self

    def release(self) -> None:
        """Let go. Releasing twice does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _take(self, file: IO[str]) -> IO[str]:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise AlreadyRunning(
                f"a stack runs already in {self._home} (process {owner}): use it, stop it, or set HEADRACE_HOME "
                "to another folder"
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        return file


def write_children(home: Path, children: Sequence[Child]) -> None:
    """Write down the running children, so that the next owner can end them if this one is killed."""
    rows = [
        {
            "name": child.spec.name,
            "pid": child.process.pid,
            "started": started_at(child.process.pid),
            "restarts": child.restarts,
            "last_end": child.last_end,
        }
        for child in children
    ]
    write_atomically(home / CHILDREN_FILE, json.dumps(rows))


def end_leftovers(home: Path) -> list[str]:
    """Kill the children of an earlier owner that still run, and return their names."""
    path = home / CHILDREN_FILE
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found = [(str(row["name"]), int(row["pid"]), row["started"]) for row in rows]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []  # nobody was here, or was killed before the list was whole
    ended = []
    for name, pid, started in found:
        # A leader that is gone may have left its group behind; its id is then not given to anyone else.
        if started_at(pid) in (started, None) and kill_group(pid):
            ended.append(name)
    path.unlink(missing_ok=True)
    return ended
