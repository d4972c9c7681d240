"""Following the ledger: what is in memory is what the ledger said half a second ago."""

import threading
import time

from headrace_schemas.errors import Unavailable
from headrace_workers.away import awaited
from headrace_workers.ledger.changes import KEPT_MS, Change, Position
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.progress import Loop
from headrace_workers.recall.known import Entry, Known

_PAUSE, _LONG_PAUSE = 0.5, 2.0  # s between two looks; while the ledger is away
_AT_ONCE = 1_000
_TOO_LONG = KEPT_MS / 1000 / 2  # s without a look: changes may have been forgotten since


class Follower:
    """Keeps `known` like the ledger, from a thread of its own."""

    def __init__(self, ledger: Ledger, known: Known, loop: Loop) -> None:
        self._ledger = ledger
        self._known = known
        self._progress = loop
        self._position: Position | None = None
        self._looked = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following, and wait until that is so."""
        self._stop.set()
        self._thread.join()

    def once(self) -> int:
        """Take in all that has changed since the last look; how many changes. Unavailable with the ledger."""
        if self._position is None or time.monotonic() - self._looked > _TOO_LONG:
            self._begin()
        taken = 0
        while self._position is not None:
            changes = self._ledger.answers.changed(self._position, _AT_ONCE)
            self._known.apply(map(_entry, changes))
            taken += len(changes)
            if changes:
                self._position = changes[-1].position
            if len(changes) < _AT_ONCE:
                break
            self._progress.beat()
        self._looked = time.monotonic()
        return taken

    def _begin(self) -> None:
        """Read all that there is. Whatever changes meanwhile is followed from the place that was read before."""
        self._known.clear()
        position, last = self._ledger.horizon(), 0
        while rows := self._ledger.answers.snapshot(last, _AT_ONCE):
            self._known.apply(Entry(row.id, row.scope, row.question, row.vector) for row in rows)
            last = rows[-1].id
            self._progress.beat()
        self._position = position

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            try:
                self.once()
            except Unavailable as error:
                self._progress.beat(awaited(error))
                pause = _LONG_PAUSE
                continue
            with self._progress.excused():
                self._known.compact()
            self._progress.beat()
            pause = _PAUSE


def _entry(change: Change) -> Entry:
    return Entry(change.entry_id, change.scope, change.question, change.vector)
