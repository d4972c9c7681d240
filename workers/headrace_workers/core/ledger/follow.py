"""Following the ledger: memory holds the ledger's state of a moment ago. A follower looks when it is woken, and twice a
second by itself: a lost hint costs that half second.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.changes import KEPT_MS, Position
from headrace_workers.core.outage import KeepsGoing
from headrace_workers.core.progress import Loop

_REST = 0.5  # s between two looks, where nobody wakes it
# s to the look after one that it was woken for, then twice as long each time: of what was written, PostgreSQL shows
# nothing here as long as an older transaction goes on.
_AGAIN = 0.005
_GATHER, _LONGEST_GATHER, _SHARE = 0.002, 0.1, 4  # what comes together costs one look: of its time, so often it rests
_TELL_EVERY = 5.0  # s
_AT_ONCE = 1_000
_TOO_LONG = KEPT_MS / 1000 / 2  # s without a look: changes may have been forgotten since


class _Change(Protocol):
    @property
    def position(self) -> Position:
        """Its place in the order of changes."""


Change = TypeVar("Change", bound=_Change)


class Memory(Protocol[Change]):
    """The part of the ledger that is in memory, kept up by one kind of change. Each method may raise Unavailable, with
    the ledger.
    """

    def begin(self, loop: Loop) -> Position:
        """Forget all, and read anew what is needed: from this position on it is to be kept up."""

    def changed(self, after: Position, limit: int) -> Sequence[Change]:
        """Return what changed after a position, in order."""

    def take_in(self, changes: Sequence[Change], loop: Loop) -> None:
        """Be as the ledger is after these; again the same changes nothing."""

    def tidy(self) -> None:
        """Do what can wait; it may take seconds."""

    def idle(self) -> bool:
        """Return True if nothing is held and nobody has asked for long: then nothing is followed until somebody
        asks.
        """

    def holds(self) -> bool:
        """The ledger was away: whether it is still what this was read from, and not one that was restored."""


class Follower(KeepsGoing, Generic[Change]):
    """Keeps a memory like the ledger, from a thread of its own."""

    def __init__(
        self,
        memory: Memory[Change],
        loop: Loop,
        tell: Callable[[Position], None] | None = None,
        rest: float = _REST,
    ) -> None:
        """`tell` is called every few seconds with the follower's position; it may raise Unavailable, as the ledger
        does. `rest`: seconds between two looks, where nobody wakes it.
        """
        super().__init__(loop)
        self.woken = threading.Event()  # set it, and it looks
        self._rest = self._pause = rest
        self._memory = memory
        self._position: Position | None = None
        self._looked = 0.0
        self._was_away = False
        self._tell = tell
        self._reported_at = -_TELL_EVERY

    def once(self) -> int:
        """Take in all that has changed since the last look; how many changes. Unavailable with the ledger."""
        try:
            return self._once()
        except Unavailable:
            self._was_away = True
            raise

    def _once(self) -> int:
        if self._memory.idle():
            self._position = None  # tenants that are asked for later are followed from then on
            return 0
        if self._position is None or self._is_to_begin():
            self._position = None
            self._position = self._memory.begin(self._progress)
        self._was_away = False
        taken = 0
        while changes := self._memory.changed(self._position, _AT_ONCE):
            self._memory.take_in(changes, self._progress)
            taken += len(changes)
            self._position = changes[-1].position
            if len(changes) < _AT_ONCE:
                break
            self._progress.beat()
        self._looked = time.monotonic()
        return taken

    def _say_how_far(self) -> None:
        now = time.monotonic()
        if self._tell is not None and self._position is not None and now - self._reported_at >= _TELL_EVERY:
            self._reported_at = now
            self._tell(self._position)

    def _is_to_begin(self) -> bool:
        if time.monotonic() - self._looked > _TOO_LONG:
            return True
        return self._was_away and not self._memory.holds()

    def stop(self, seconds: float | None = None) -> None:
        """Follow no more, and wait until that is so, for so many seconds at most."""
        self._stop.set()
        self.woken.set()
        super().stop(seconds)

    def _look(self) -> None:
        self.woken.clear()
        began = time.monotonic()
        self.once()
        took = time.monotonic() - began
        self._say_how_far()
        with self._progress.excused():
            self._memory.tidy()
        self._stop.wait(min(_LONGEST_GATHER, max(_GATHER, _SHARE * took)))
        self._pause = _AGAIN if self.woken.wait(self._pause) else min(self._rest, 2 * self._pause)
