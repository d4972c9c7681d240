"""Following the ledger: what is in memory is what the ledger said half a second ago."""

import time
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from headrace_schemas.errors import Unavailable
from headrace_workers.away import KeepsGoing
from headrace_workers.ledger.work.changes import KEPT_MS, Position
from headrace_workers.progress import Loop

_PAUSE = 0.5  # s between two looks
_TELL_EVERY = 5.0  # s
_AT_ONCE = 1_000
_TOO_LONG = KEPT_MS / 1000 / 2  # s without a look: changes may have been forgotten since


class _Change(Protocol):
    @property
    def position(self) -> Position:
        """Its place in the order of changes."""


Change = TypeVar("Change", bound=_Change)


class Memory(Protocol[Change]):
    """What is in memory of the ledger: one kind of change keeps it up. Each may raise Unavailable, with the ledger."""

    def begin(self, loop: Loop) -> Position:
        """Forget all, and read anew what is needed: from this position on it is to be kept up."""

    def changed(self, after: Position, limit: int) -> Sequence[Change]:
        """What changed after a position, in order."""

    def take_in(self, changes: Sequence[Change], loop: Loop) -> None:
        """Be as the ledger is after these; again the same changes nothing."""

    def tidy(self) -> None:
        """Do what can wait; it may take seconds."""

    def idle(self) -> bool:
        """Whether nothing is held, and nobody has asked for long: until somebody does, nothing is followed."""

    def holds(self) -> bool:
        """The ledger was away: whether it is still what this was read from, and not one that was restored."""


class Follower(KeepsGoing, Generic[Change]):
    """Keeps a memory like the ledger, from a thread of its own."""

    def __init__(self, memory: Memory[Change], loop: Loop, tell: Callable[[Position], None] | None = None) -> None:
        """`tell` is told every few seconds how far it is; it may raise Unavailable, with the ledger."""
        super().__init__(loop)
        self._memory = memory
        self._position: Position | None = None
        self._looked = 0.0
        self._was_away = False
        self._tell = tell
        self._told = -_TELL_EVERY

    def once(self) -> int:
        """Take in all that has changed since the last look; how many changes. Unavailable with the ledger."""
        try:
            return self._once()
        except Unavailable:
            self._was_away = True
            raise

    def _once(self) -> int:
        if self._memory.idle():
            self._position = None  # whoever is asked for later is followed from then on
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
        if self._tell is not None and self._position is not None and now - self._told >= _TELL_EVERY:
            self._told = now
            self._tell(self._position)

    def _is_to_begin(self) -> bool:
        if time.monotonic() - self._looked > _TOO_LONG:
            return True
        return self._was_away and not self._memory.holds()

    def _look(self) -> None:
        self.once()
        self._say_how_far()
        with self._progress.excused():
            self._memory.tidy()
        self._stop.wait(_PAUSE)
