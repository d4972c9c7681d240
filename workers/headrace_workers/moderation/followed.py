"""What files say, followed: from a change on that holds, unless it is wrong."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from headrace_schemas import HeadraceError
from headrace_workers.log import Action, log

EVERY: Final = 2.0  # seconds between two looks at the files

R = TypeVar("R")
T = TypeVar("T")
_Seen = tuple[tuple[int, int, int] | None, ...]


class Followed(Generic[R, T]):
    """What is made of files as they are now. Thread-safe.

    Files that are wrong change nothing: the log says once what is wrong, and what was right last holds.
    """

    def __init__(
        self,
        read: Callable[[], tuple[R, Sequence[Path]]],
        make: Callable[[R], T],
        files: Sequence[Path],
        *,
        told: Callable[[T], object] = lambda _: None,
        every: float = EVERY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read` reads the first of the files, and says which all are, `files` before the first time; `make` may read
        the others. `told` hears of each change. What they raise is raised here, where there is nothing from before.
        """
        self._read, self._make, self._told, self._every, self._monotonic = read, make, told, every, monotonic
        self._looking = threading.Lock()
        self._files = tuple(files)
        self._value = self._loaded()
        self._next = monotonic() + every

    def now(self) -> T:
        """What they say now, or said when they were right last."""
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
            log("moderation", logging.ERROR, Action.POLICY_REFUSED, f"the policy of before holds: {error}")
            return
        self._told(self._value)

    def _loaded(self) -> T:
        """What is seen of the files is so before they are read: a change meanwhile is the next one."""
        self._seen = _states(self._files)
        read, files = self._read()
        if tuple(files) != self._files:
            self._files = tuple(files)
            self._seen = _states(self._files)
            read, _ = self._read()
        return self._make(read)


def _states(files: Sequence[Path]) -> _Seen:
    """What tells one state of each file from another; None of one that is away."""
    return tuple(map(_state, files))


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
