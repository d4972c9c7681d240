"""Progress of a process's loops: when each last went on, and which service it waits for. Health is read from it.

A bounded wait for a service that is away is progress. A loop that stopped going on is stuck, and ends its process:
see runtime/health/watched.py.
"""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from headrace_workers.core.log import Action, log

STUCK_EXIT: Final = 70  # of a process that ended itself because a loop was stuck: EX_SOFTWARE of sysexits.h
_TELL_EVERY: Final = 60.0  # seconds between lines about a wait that goes on


@dataclass(frozen=True, slots=True)
class Awaited:
    """A service that a loop waits for, such as "Redis", and how its absence shows."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class LoopState:
    """State of a loop. `silent`: seconds since its last sign of progress. `waits`: seconds that it has waited for
    `awaited`.

    `doing` is what it is in the middle of, where people should know that.
    """

    name: str
    silent: float
    excused: bool
    awaited: Awaited | None
    waits: float
    doing: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """The version of a file's policy that is in force for a purpose (`what`), and the reason why the file's present
    content is refused.

    `outdated`: the file has changed since that was needed last; it is read again before it is needed next.
    """

    what: str
    path: str
    version: str
    refused: str | None = None
    outdated: bool = False


class Loop:
    """Progress of one loop. Belongs to the thread of the loop."""

    def __init__(self, name: str, progress: "Progress") -> None:
        self.name = name
        self._progress = progress
        self._at = progress.lived
        self._excused = 0
        self._awaited: Awaited | None = None
        self._awaited_at = 0.0
        self.doing: str | None = None  # what it is in the middle of, for people
        self.thread = threading.get_ident()

    def beat(self, awaited: Awaited | None = None) -> None:
        """Report progress: the loop completed a round, or waited for a service that is unavailable and tries again."""
        self._at = self._progress.lived
        self.thread = threading.get_ident()
        if awaited is None and self._awaited is None:
            return
        before, self._awaited = self._awaited, awaited
        if before is None or awaited is None or before.what != awaited.what:
            self._awaited_at = self._at
        self._progress.tell(self.name, before, awaited)

    @contextmanager
    def excused(self) -> Iterator[None]:
        """Ignore the loop's silence while the body runs: its work is bounded elsewhere, or it rests."""
        self._excused += 1
        try:
            yield
        finally:
            self._at = self._progress.lived
            self._excused -= 1

    def end(self) -> None:
        """Report that the loop has ended as intended: its silence no longer counts."""
        self.beat()
        self._progress.ended(self)

    def state(self) -> LoopState:
        """Return the state of the loop now."""
        lived, awaited, excused = self._progress.lived, self._awaited, self._excused > 0
        return LoopState(
            name=self.name,
            silent=0.0 if excused else lived - self._at,
            excused=excused,
            awaited=awaited,
            waits=lived - self._awaited_at if awaited else 0.0,
            doing=self.doing,
        )


def stack_of(thread: int) -> str:
    """Return where a thread is: lines of code, no values."""
    frame = sys._current_frames().get(thread)
    return "".join(traceback.format_stack(frame)) if frame else "its thread has ended\n"


class Progress:
    """The loops of a process, and one log of the outages that they wait for: a line when a service goes away, one a
    minute, and one when it is back, however many loops wait for it. Thread-safe.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._loops: dict[str, Loop] = {}
        self._waits: dict[str, _Wait] = {}
        self.lived = 0.0  # seconds that this process has run; while it was stopped, its loops could not go on

    def loop(self, name: str) -> Loop:
        """Return the progress of a new loop; its silence counts from now."""
        with self._lock:
            loop = self._loops[name] = Loop(name, self)
        return loop

    def ended(self, loop: Loop) -> None:
        """Note that a loop has ended as intended."""
        with self._lock:
            if self._loops.get(loop.name) is loop:  # another may have its name by now
                del self._loops[loop.name]

    @property
    def loops(self) -> list[Loop]:
        """Return the loops that have not ended."""
        with self._lock:
            return list(self._loops.values())

    def tell(self, who: str, before: Awaited | None, now: Awaited | None) -> None:
        """Log which service `who` waits for, if that is news. Callers that are no loop may call it, too."""
        time_ = self._monotonic()
        with self._lock:
            lines = []
            if before is not None and (now is None or now.what != before.what):
                lines += self._back(who, before.what, time_)
            if now is not None:
                lines += self._outage(who, now, time_)
        for level, action, text in lines:
            log(who, level, action, text)

    def _outage(self, who: str, awaited: Awaited, now: float) -> list[tuple[int, Action, str]]:
        wait = self._waits.get(awaited.what)
        if wait is None:
            self._waits[awaited.what] = _Wait({who}, now, now)
            return [(logging.WARNING, Action.UNAVAILABLE, f"waiting for {awaited.what}: {awaited.why}")]
        wait.who.add(who)
        if now - wait.logged_at < _TELL_EVERY:
            return []
        wait.logged_at = now
        text = f"still waiting for {awaited.what}, for {now - wait.since:.0f} s: {awaited.why}"
        return [(logging.WARNING, Action.UNAVAILABLE, text)]

    def _back(self, who: str, what: str, now: float) -> list[tuple[int, Action, str]]:
        wait = self._waits.get(what)
        if wait is None:
            return []
        wait.who.discard(who)
        if wait.who:
            return []  # the loop that goes on first may have needed nothing of it
        del self._waits[what]
        return [(logging.INFO, Action.AVAILABLE, f"{what} is there again, after {now - wait.since:.1f} s")]


@dataclass(slots=True)
class _Wait:
    who: set[str]
    since: float
    logged_at: float
