"""File of a process, locked for as long as the process lives, so that the file of a dead process is recognised. It
holds no data of users.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from headrace_workers.core.log import Action, log

if TYPE_CHECKING:
    from headrace_workers.runtime.settings import Settings


def deployment_of(settings: "Settings") -> str:
    """Return the name of a deployment in its files on this machine."""
    return deployment_named(settings.home, settings.kafka.prefix, settings.redis, settings.ledger)


def deployment_named(home: Path, prefix: str, redis: str, ledger: str) -> str:
    """Return the name that home, prefix and addresses give: a digest, without the users and passwords in them."""
    about = json.dumps([str(home.absolute()), prefix, _bare(redis), _bare(ledger)])
    return hashlib.sha256(about.encode()).hexdigest()[:12]


def _bare(url: str) -> list[str]:
    """Return an address without its user, and in one spelling: SQLAlchemy quotes and sorts where it adds a password."""
    address, _, query = re.sub(r"//[^/]*@", "//", url).partition("?")
    return [unquote(address), *sorted(map("=".join, parse_qsl(query)))]


def path_of(deployment: str, name: str) -> Path:
    """Return the path of a deployment's file."""
    return Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}-{deployment}-{name}.json"


class OwnFile:
    """File of this process. If it cannot be written, that is logged once, and the work goes on."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: Path) -> "OwnFile":
        """Create and lock the file. It gets its name only then, since readers take an unlocked file for a dead
        process's.
        """
        draft = path.with_suffix(".new")
        try:
            draft.unlink(missing_ok=True)  # of a process before us with the same id
            descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.replace(path)
        except OSError as error:
            cls._complain(path, error)
            return cls(path, None)
        return cls(path, descriptor)

    def write(self, content: dict[str, Any]) -> None:
        """Replace what it says."""
        if self._descriptor is None:
            return
        text = json.dumps(content).encode()
        try:
            os.pwrite(self._descriptor, text, 0)
            os.ftruncate(self._descriptor, len(text))
        except OSError as error:
            self._complain(self._path, error)
            self.remove()

    def remove(self) -> None:
        """Remove the file when the process ends as intended."""
        if self._descriptor is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    @staticmethod
    def _complain(path: Path, error: OSError) -> None:
        log("health", logging.WARNING, Action.UNAVAILABLE,
            f"{path} cannot be written ({error.strerror}): `headrace health` will not know this process")  # fmt: skip


def is_locked(descriptor: int) -> bool:
    """Return True if a process that lives has this file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
