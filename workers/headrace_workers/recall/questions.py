"""The questions whose answers may be served, kept like the ledger: see `known.py` for how they are found."""

from collections.abc import Sequence

from headrace_workers.ledger.changes import Change, Position
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.progress import Loop
from headrace_workers.recall.known import Entry, Known

_AT_ONCE = 1_000


class Questions:
    """What a follower keeps `known` by."""

    def __init__(self, ledger: Ledger, known: Known) -> None:
        self._ledger = ledger
        self._known = known

    def begin(self, loop: Loop) -> Position:
        """Read all that there is. Whatever changes meanwhile is followed from the place that was read before."""
        self._known.clear()
        position, last = self._ledger.horizon(), 0
        while rows := self._ledger.answers.snapshot(last, _AT_ONCE):
            self._known.apply(Entry(row.id, row.scope, row.question, row.vector) for row in rows)
            last = rows[-1].id
            loop.beat()
        return position

    def changed(self, after: Position, limit: int) -> Sequence[Change]:
        """What changed of answers after a position, in order."""
        return self._ledger.answers.changed(after, limit)

    def take_in(self, changes: Sequence[Change], _loop: Loop) -> None:
        """Know what these entries are now."""
        self._known.apply(Entry(each.entry_id, each.scope, each.question, each.vector) for each in changes)

    def tidy(self) -> None:
        """Rebuild what is due."""
        self._known.compact()
