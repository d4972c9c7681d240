"""Questions whose answers may be served, kept in step with the ledger: see `question_indexes.py` for the look-up."""

import threading
from collections.abc import Sequence

from headrace_workers.core.ledger.change_feed import Mark, Position
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.progress import Loop
from headrace_workers.features.cache.semantic.question_indexes import Entry, Known
from headrace_workers.features.cache.semantic.saved import Reached, Saved, dropped
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.entry_changes import Change

_AT_ONCE = 1_000


class Questions:
    """The follower that keeps `known` up to date. It begins with what was `saved`, if that is still valid."""

    def __init__(self, ledger: Ledger, known: Known, saved: Saved | None = None) -> None:
        self._ledger = ledger
        self._known = known
        self._saved = saved
        self._reached: Reached | None = None
        self._rebuilding: threading.Thread | None = None

    @property
    def reached(self) -> Reached | None:
        """Return the state and its last change; None while it is being read, or if nothing has changed yet."""
        return self._reached

    def begin(self, loop: Loop) -> Position:
        """Start from what was saved, or else read all that there is.

        Whatever changes meanwhile is followed from the place that was read before.
        """
        self._known.clear()
        self._reached = None
        mark = self._from_disk()
        position = mark.position if mark is not None else self._ledger.horizon()
        if mark is None:
            mark = self._ledger.of(Answers).mark(position)
            self._read(loop, making=False)
        self._read(loop, making=True)
        self._is_at(mark)
        return position

    def changed(self, after: Position, limit: int) -> Sequence[Change]:
        """Return the changes of answers after a position, in order."""
        return self._ledger.of(Answers).changed(after, limit)

    def take_in(self, changes: Sequence[Change], _loop: Loop) -> None:
        """Know what these entries are now."""
        self._known.apply(Entry(each.entry_id, each.scope, each.question, each.vector, each.making) for each in changes)
        self._is_at(changes[-1].mark)

    def tidy(self) -> None:
        """Rebuild what is due, beside: it takes seconds for 100,000 questions, and changes are not to wait for it."""
        if self._known.due and (self._rebuilding is None or not self._rebuilding.is_alive()):
            self._rebuilding = threading.Thread(target=self._known.compact, name="rebuild", daemon=True)
            self._rebuilding.start()

    def idle(self) -> bool:
        """Never: any question may be asked next."""
        return False

    def holds(self) -> bool:
        """Return True if the ledger still has the last change that is in here."""
        return self._reached is not None and self._ledger.of(Answers).stands(self._reached.mark)

    def _from_disk(self) -> Mark | None:
        mark = None if self._saved is None else self._saved.load(self._known)
        if mark is None or self._ledger.of(Answers).stands(mark):
            return mark
        dropped(f"the ledger does not hold the change {mark.number} any more, with which the snapshot ends")
        self._known.clear()
        return None

    def _read(self, loop: Loop, *, making: bool) -> None:
        last = 0
        while rows := self._ledger.of(Answers).snapshot(last, _AT_ONCE, making=making):
            self._known.apply(Entry(row.id, row.scope, row.question, row.vector, making) for row in rows)
            last = rows[-1].id
            loop.beat()

    def _is_at(self, mark: Mark | None) -> None:
        self._reached = None if mark is None else Reached(mark, self._known.live)
        self._known.followed = 0 if mark is None else mark.number
