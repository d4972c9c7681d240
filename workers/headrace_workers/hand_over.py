"""What follows from finished work, sent on at once where its queue has room, so that no bridge need look first."""

import logging
from collections.abc import Sequence
from contextlib import suppress

from headrace_schemas.errors import Unavailable
from headrace_workers.away import words
from headrace_workers.grouping import is_model_queue
from headrace_workers.ledger.claim import Claim
from headrace_workers.ledger.complete import Advanced, Settled
from headrace_workers.ledger.hand_on import Onward
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.log import Action, log
from headrace_workers.taskqueue import TaskQueue


class HandOver:
    """A worker's way to the next one. Thread-safe. What it cannot send, a bridge hands out."""

    def __init__(self, *, ledger: Ledger, tasks: TaskQueue, sender: str, depth: int, lease_ms: int) -> None:
        self._ledger = ledger
        self._tasks = tasks
        self._sender = sender
        self._depth = depth
        self._lease_ms = lease_ms

    def onward(self, settled: Sequence[Settled]) -> Onward:
        """How many groups of what follows may be handed out with its making.

        None that a model runs: the bridge forms those, so that they fit the time quantum.
        """
        following = [step for s in settled if isinstance(s, Advanced) for step in s.following]
        lanes = {(step.queue, step.lane) for step in following if not step.tried and not is_model_queue(step.queue)}
        try:
            waiting = self._tasks.waiting(sorted(lanes)) if lanes else {}
        except Unavailable:
            waiting = {}
        room = {lane: self._depth - count for lane, count in waiting.items()}
        return Onward(room, self._sender, self._lease_ms)

    def send(self, claims: Sequence[Claim]) -> None:
        """Send what was handed out; what cannot be sent is ready again, or will be when its lease ends."""
        unsent = list(claims)
        try:
            while unsent:
                self._tasks.send(unsent[0])
                unsent.pop(0)
        except Exception as error:  # whatever it was: the caller has work of its own to go on with
            log("run", logging.WARNING, Action.UNAVAILABLE, f"could not hand work on: {words(error)}")
            with suppress(Unavailable):
                self._ledger.release([claim.id for claim in unsent])
