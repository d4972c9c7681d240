"""Rows that are left in the outbox while some places take nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace_schemas import Topic
from headrace_workers.core.ledger.outbox import OutboxRow
from headrace_workers.runtime.bridge.event_publisher import Published
from headrace_workers.runtime.bridge.places import Place

_AGAIN = 10.0  # seconds to the next try
_SHARE = 0.1  # of the time goes, at most, into leafing through what is left


@dataclass(slots=True)
class Passing:
    """A pass over the outbox, from its beginning, while some places take nothing: it knows the rows that were left.

    Later events under the key of an event that was left wait too, on every topic: a job's events keep their order.
    A pass goes forward only. Rows may appear behind it, since numbers are given before transactions end: the next
    finds them.
    """

    begun: float  # seconds by the clock of this process
    shut: dict[Place, str] = field(default_factory=dict)  # with the reason
    after: int = 0  # rows up to this number are done with, or left
    _held: set[str] = field(default_factory=set)  # keys
    _leafed: float = 0.0  # seconds

    @property
    def topics(self) -> list[Topic]:
        """Return the topics that are shut as a whole."""
        return [place.topic for place in self.shut if place.partition is None]

    def over(self, now: float) -> bool:
        """Return True if it is time to begin anew."""
        return now >= self.begun + _AGAIN + self._leafed / _SHARE

    def open_rows(self, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Return the rows that may be published as far as is known; the others are left."""
        topics, found = set(self.topics), []
        for row in rows:
            if row.record.topic in topics or row.record.key in self._held:
                self._leave(row)
            else:
                found.append(row)
        return found

    def turn(self, rows: Sequence[OutboxRow], done: Published, seconds: float) -> None:
        """Finish a page: rows that were neither published nor set aside are left."""
        if not rows:
            return
        gone = {*done.confirmed, *done.refused}
        for row in rows:
            if row.id not in gone:
                self._leave(row)
        self.shut.update(done.shut)
        self.after = rows[-1].id
        if 2 * len(gone) < len(rows):
            self._leafed += seconds

    def _leave(self, row: OutboxRow) -> None:
        if row.record.key is not None:
            self._held.add(row.record.key)
