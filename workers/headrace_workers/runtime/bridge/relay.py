"""Outbox to Kafka: in order, acknowledged by all replicas, and only then forgotten. One bridge at a time does it.

A bridge that cannot publish gives the duty up for a while, since it may be the only one that cannot: its clock may be
wrong, or its way to the broker broken. Alone it tries again after that while. A record that Kafka will never take is
set aside with its reason, and the records after it under its key wait: a consumer that follows a job by its key must
not see its end before what led to it, neither now nor when it is tried again. All other keys go on.

A topic that is missing or forbidden, or a partition without a leader, delays only the rows that are meant for it, and
the rows after them under their keys: these stay where they are, and are tried again after a while, from the first.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from headrace_producers.words import words
from headrace_schemas import Topic
from headrace_workers.core.clock import Clock
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import OutboxRow
from headrace_workers.core.log import Action, log
from headrace_workers.core.outage import KafkaUnavailable, awaited
from headrace_workers.core.progress import Awaited
from headrace_workers.runtime.bridge.destinations import Destination
from headrace_workers.runtime.bridge.duty import DutyLease, IncidentReporter, LedgerTime
from headrace_workers.runtime.bridge.event_publisher import Published, Publisher
from headrace_workers.runtime.wire.assignment import FollowUp

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
    shut: dict[Destination, str] = field(default_factory=dict)  # with the reason
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


DUTY = "relay"
_BATCH = 1_000
_BATCH_BYTES = 8 * 1024**2
_IDLE = 1.0  # seconds to the next look without a hint: writers of events send one
DUTY_LEASE = 5.0  # seconds: so long nothing is published when the bridge that does it was killed
GIVES_WAY = 2.0  # seconds: other bridges look for the duty each second
_PUBLISH_SECONDS = 30.0
_CLOSE_SECONDS = 5.0


class Relay:
    """A publisher and the ledger. Belongs to the thread that calls `once`."""

    def __init__(
        self,
        *,
        publisher: Publisher,
        ledger: Ledger,
        bridge: str,
        clock: Clock,
        incidents: IncidentReporter,
        follow_up: FollowUp,
        check_cluster: Callable[[], None] = lambda: None,
    ) -> None:
        self._publisher = publisher
        self._ledger = ledger
        self._bridge = bridge
        self._clock = clock
        self._incidents = incidents
        self._follow_up = follow_up
        self._check_cluster = check_cluster
        # Units such as webhooks do not wait until Kafka has confirmed.
        self._follower = ThreadPoolExecutor(1, thread_name_prefix="follow")
        self._duty = DutyLease(DUTY, ledger=ledger, bridge=bridge, clock=clock, seconds=DUTY_LEASE)
        self._gives_way_until = float("-inf")
        self._passing: Passing | None = None  # while a place takes nothing
        self.waits: Awaited | None = None  # what keeps it from publishing
        self.rest = 0.0  # seconds to the next look without a hint
        self.followed = False  # something follows from what was seen at the last look: there is new work
        # This machine's own clock may be wrong, and brokers refuse records from the future.
        self._ledger_time = LedgerTime(ledger, clock)

    def once(self) -> int:
        """Publish the oldest events; return how many were published, set aside or left for now. Return 0 also while
        another bridge has this duty.

        Raise KafkaUnavailable if some could not be published for a reason that lies in this bridge or all of Kafka; the
        published ones are done.
        """
        self.rest = _IDLE
        self.followed = False
        self._check_cluster()
        if not self._on_duty():
            return 0
        begun = self._clock.monotonic()
        if self._passing is not None and self._passing.over(begun):
            self._passing = None  # what is shut is tried again
        passing = self._passing or Passing(begun)
        rows = self._ledger.outbox(_BATCH, _BATCH_BYTES, after=passing.after, unread=passing.topics)
        seconds = self._clock.monotonic() - begun  # what comes now takes its time for other reasons
        done = self._publish(passing.open_rows(rows))
        if passing.shut or done.shut:
            passing.turn(rows, done, seconds)
            self._passing = passing
        self._say(passing.shut)
        if len(rows) == _BATCH or sum(len(row.record.value) for row in rows) >= _BATCH_BYTES:
            self.rest = 0.0  # that was not all there is
        return len(rows)

    def _publish(self, rows: list[OutboxRow]) -> Published:
        """Publish these rows, and delete the published ones."""
        if not rows:
            return Published()
        now = self._ledger_time.ms()
        following = self._follower.submit(self._follow_up.once, [row.record for row in rows], now)
        try:
            done = self._publisher.publish(rows, timestamp=now, seconds=_PUBLISH_SECONDS)
        finally:
            wait([following])
        self.followed = following.result()
        if done.refused:
            self._ledger.set_aside(done.refused)
            for row in rows:
                if row.id in done.refused:
                    job = row.record.key or "none"
                    log(DUTY, logging.ERROR, Action.SET_ASIDE, f"set aside: {done.refused[row.id]}", job=job)
        self._ledger.published(done.confirmed)
        if done.error is not None:
            self._give_way(done.error)
        return done

    def close(self) -> None:
        """Close the producer."""
        self._publisher.close(_CLOSE_SECONDS)
        self._follower.shutdown(wait=False)

    def _on_duty(self) -> bool:
        """Return True if this bridge publishes: it has the duty, and does not give way."""
        if self._clock.monotonic() < self._gives_way_until:
            return False
        if self._duty.held():
            return True
        self._passing = None
        self._say({})  # another does it
        return False

    def _say(self, shut: Mapping[Destination, str]) -> None:
        """Report the places that take nothing; without any, all is well."""
        self.waits = Awaited(" and ".join(f"the {place}" for place in shut), "; ".join(shut.values())) if shut else None
        self._incidents.tell(DUTY, {str(place): reason for place, reason in shut.items()})

    def _give_way(self, error: BaseException) -> None:
        self._passing = None
        self._duty.give_up()
        self._gives_way_until = self._clock.monotonic() + GIVES_WAY
        self._ledger_time.ask_anew()
        reason = f"events cannot be published from here: {_in_words(error)}"
        failure = KafkaUnavailable(reason)
        self.waits = awaited(failure)
        self._ledger.lay_down(self._bridge, DUTY)
        self._incidents.tell(DUTY, {"": reason})
        raise failure from error


def _in_words(error: BaseException) -> str:
    from kafka.errors import InvalidTimestampError

    if isinstance(error, InvalidTimestampError):
        return "the broker says that the ledger's clock is wrong by an hour or more: compare both machines' clocks"
    return words(error)
