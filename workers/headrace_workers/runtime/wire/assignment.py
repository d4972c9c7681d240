"""Assignment of new steps to workers before the bridge looks for them, and units that follow from published records."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from headrace_producers.words import words
from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.claims import Claim, QueueRoom
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.event_units import NewUnit
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import Outgoing
from headrace_workers.core.ledger.steps import INTERACTIVE
from headrace_workers.core.log import Action, log
from headrace_workers.runtime.wire.taskqueue import TaskQueue

COMPANY = 8  # steps of the batch lane that wait for no others: a message and two transactions for fewer are dear
QUEUE_DEPTH = 2  # groups that wait in Redis, for each queue and lane: more would age there
_OUTAGE_SECONDS = 10.0  # without asking a Redis that did not answer: callers have other things to do


class Assigner:
    """Sender of new work to its worker. Thread-safe. A bridge assigns the rest."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        tasks: TaskQueue,
        sender: str,
        depth: int,
        lease_ms: int,
        sent: Callable[[Claim], object] | None = None,
    ) -> None:
        self._ledger = ledger
        self._tasks = tasks
        self._sender = sender
        self._depth = depth
        self._lease_ms = lease_ms
        self._sent = sent  # called with each claim
        self._outage_until = float("-inf")

    def room(self, lanes: Collection[tuple[str, int]]) -> QueueRoom:
        """Return how many groups of these queues and lanes may be assigned when they are made."""
        waiting: dict[tuple[str, int], int] = {}
        if lanes and time.monotonic() > self._outage_until:
            try:
                waiting = self._tasks.waiting(sorted(lanes))
            except Unavailable:
                self._outage_until = time.monotonic() + _OUTAGE_SECONDS
        groups = {lane: self._depth - count for lane, count in waiting.items()}
        return QueueRoom(groups, self._sender, self._lease_ms)

    def send(self, claims: Sequence[Claim]) -> None:
        """Send the claims that were assigned; a claim that cannot be sent is ready again, at the latest when its lease
        ends."""
        unsent = list(claims)
        try:
            while unsent:
                self._tasks.send(unsent[0])
                claim = unsent.pop(0)
                if self._sent is not None:
                    self._sent(claim)
        except Exception as error:  # any error: the caller has work of its own to go on with
            log("hand-out", logging.WARNING, Action.UNAVAILABLE, f"could not assign work at once: {words(error)}")
            with suppress(Unavailable):
                self._ledger.release([claim.id for claim in unsent])


def behind(settled: Sequence[StepResult]) -> set[tuple[str, int]]:
    """Return queues and lanes of the steps that follow from these and wait. The bridge forms the groups of the steps
    that a model runs, so that they fit the time quantum, and of a few steps of the batch lane, so that they have
    company.
    """
    following = [step for item in settled for step in item.following]
    places = Counter((step.queue, step.lane) for step in following if not step.tried and not step.sized)
    return {place for place, count in places.items() if place[1] == INTERACTIVE or count >= COMPANY}


def alone(jobs: Sequence[NewJob]) -> set[tuple[str, int]]:
    """Return the queues of which these jobs bring one interactive step: there is nothing to group it with."""
    places = Counter((step.queue, step.lane) for job in jobs for step in job.steps)
    return {place for place, count in places.items() if count == 1 and place[1] == INTERACTIVE}


# Units that follow from published records, such as webhooks: written, and sent to their worker at once if there is
# room.
#
# A bridge does this with everything that it publishes. A worker that ends a job may do it before; then there is nothing
# left.

_FEW = 64  # units are assigned when they are made; a bridge groups more of them


class FollowUp:
    """Maker of the units that follow from records, at a time (ms by the ledger's clock). Thread-safe where
    `units` is.
    """

    def __init__(
        self, *, ledger: Ledger, units: Callable[[Sequence[Outgoing], int], Sequence[NewUnit]], assigner: Assigner
    ) -> None:
        self._ledger = ledger
        self._units = units
        self._assigner = assigner

    def once(self, records: Sequence[Outgoing], now: int) -> bool:
        """Follow these records; return True if some of the new units are left for a bridge to assign. A record that was
        followed before changes nothing. Raise Unavailable.
        """
        units = self._units(records, now)
        if not units:
            return False
        places = {(unit.step.queue, unit.step.lane) for unit in units}
        room = self._assigner.room(places) if len(units) <= _FEW else None
        written = self._ledger.make_units(units, room)
        self._assigner.send(written.assigned)
        return sum(claim.size for claim in written.assigned) < written.count
