"""Configuration files that are followed: a change takes effect unless it is wrong.

A process may follow the same files several times, such as for moderation and for routing. An error in them is logged
once for all of these; `standings` returns the version that each uses.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Generic, TypeVar

from headrace_schemas import HeadraceError
from headrace_workers.core.log import Action, log
from headrace_workers.core.progress import Standing

EVERY: Final = 2.0  # seconds between two looks at the files

R = TypeVar("R")
T = TypeVar("T")
_Seen = tuple[tuple[int, int, int] | None, ...]


class _Standings:
    """The standings of this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], tuple[Standing, Sequence[Path], _Seen]] = {}

    def put(self, standing: Standing, files: Sequence[Path], seen: _Seen) -> bool:
        """Note a standing and the state of its files; return True if another standing has refused these files for the
        same reason.
        """
        with self._lock:
            mine = standing.what, standing.path
            known = [noted for key, noted in self._found.items() if key != mine]
            self._found[mine] = standing, files, seen
        return any(
            (item.path, item.refused, when) == (standing.path, standing.refused, seen) for item, _, when in known
        )

    def all(self) -> list[Standing]:
        """Return all standings, ordered by purpose."""
        with self._lock:
            noted = [self._found[key] for key in sorted(self._found)]
        return [replace(standing, outdated=_states(files) != seen) for standing, files, seen in noted]


STANDINGS: Final = _Standings()


def standings() -> list[Standing]:
    """Return the version of each policy that this process uses, as of its last use, and whether it is outdated."""
    return STANDINGS.all()


class ConfigWatch(Generic[R, T]):
    """A value made from files as they are now. Thread-safe.

    Files that are wrong change nothing: the log says once what is wrong, and what was right last holds.
    """

    def __init__(
        self,
        read: Callable[[], tuple[R, Sequence[Path]]],
        make: Callable[[R], T],
        files: Sequence[Path],
        *,
        what: str,
        version: Callable[[T], str],
        log_as: str,
        on_change: Callable[[T], object] = lambda _: None,
        every: float = EVERY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Follow files. `read` reads the first of the files, and returns them all, `files` before the first time;
        `make` may read the others. `on_change` is called at each change. Their errors are raised here, since there is
        no earlier version to keep. `what` is the purpose, and `version` returns the policy's version. `log_as` is the
        logger's name.
        """
        self._what, self._path, self._version = what, str(files[0]), version
        self._log = log_as
        self._read, self._make, self._on_change, self._every, self._monotonic = read, make, on_change, every, monotonic
        self._looking = threading.Lock()
        self.refused: str | None = None  # why what the files say now is not what holds
        self._files = tuple(files)
        self._value = self._loaded()
        self._stands()
        self._next = monotonic() + every

    def now(self) -> T:
        """Return the value of the files as they are now, or as they were when they were last right."""
        if self._monotonic() >= self._next and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()
        return self._value

    def _look(self) -> None:
        self._next = self._monotonic() + self._every
        if _states(self._files) == self._seen:
            return
        try:
            self._value = self._loaded()
        except HeadraceError as error:
            if not self._stands(str(error)):
                log(self._log, logging.ERROR, Action.POLICY_REFUSED, f"the previous policy stays in force: {error}")
            return
        self._stands()
        self._on_change(self._value)

    def _stands(self, refused: str | None = None) -> bool:
        """Note the version in force; return True if the reason why the files are refused is known already."""
        self.refused = refused
        standing = Standing(self._what, self._path, self._version(self._value), refused)
        return STANDINGS.put(standing, self._files, self._seen)

    def _loaded(self) -> T:
        """Load the files. Their state is noted before they are read, so that a change meanwhile is seen next time."""
        self._seen = _states(self._files)
        read, files = self._read()
        if tuple(files) != self._files:
            self._files = tuple(files)
            self._seen = _states(self._files)
            read, _ = self._read()
        return self._make(read)


def _states(files: Sequence[Path]) -> _Seen:
    """Return a value that differs between two states of each file; None for a file that is missing."""
    return tuple(map(_state, files))


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
