"""Keeping the leases of what runs, in a thread of its own: a step may run long, but a dead worker's lease must end.

A run has a bound all the same. A hung run is not renewed beyond it, and ends its process: see runs.py.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action
from headrace_workers.core.outage import awaited
from headrace_workers.core.progress import Loop
from headrace_workers.runtime.wire.hints import Hint, Notifier
from headrace_workers.runtime.worker.runs import Run, Runs, end_process

_SOON = 1.0  # seconds to the next try when the ledger did not answer: the lease goes on meanwhile


class Renewer:
    """Loop that renews every claim of this process, three times a lease, and gives back claims that are to go.

    Bridges are notified of returned claims.
    """

    def __init__(
        self,
        ledger: Ledger,
        lease_ms: int,
        loop: Loop,
        runs: Runs,
        notifier: Notifier,
        *,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._ledger = ledger
        self._notifier = notifier
        self._lease_ms = lease_ms
        self._progress = loop
        self._runs = runs
        self._end = end
        self._lock = threading.Lock()
        self._held: set[int] = set()
        self._given_up: set[int] = set()
        self._ending = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="renew", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing."""
        self._stop.set()

    @contextmanager
    def renewing(self, claim_id: int) -> Iterator[bool]:
        """Keep this claim's lease while the body runs; False when that is done already, or this process ends."""
        with self._lock:
            mine = claim_id not in self._held and not self._ending
            if mine:
                self._held.add(claim_id)
        try:
            yield mine
        finally:
            if mine:
                with self._lock:
                    self._held.discard(claim_id)

    def held(self) -> list[int]:
        """Return the claims in hand."""
        with self._lock:
            return sorted(self._held)

    def give_up(self, claim_id: int) -> None:
        """Give this claim back in a while, as soon as the ledger answers."""
        with self._lock:
            self._given_up.add(claim_id)

    def give_back(self) -> int:
        """Give back all claims that are in hand or were let go of; the number of steps."""
        return self._give_back_but(frozenset())

    def _give_back_but(self, kept: Set[int]) -> int:
        with self._lock:
            claims = (self._held | self._given_up) - kept
        return self._release(sorted(claims)) if claims else 0

    def _release(self, claims: Sequence[int]) -> int:
        steps = self._ledger.give_back(claims)
        if steps:
            self._notifier.notify(Hint.WORK)
        return steps

    def _loop(self) -> None:
        pause = every = self._lease_ms / 3000
        while not self._rest(pause):
            try:
                if hung := self._runs.hung():
                    self._end_with(hung)
                    return
                self._round()
                self._progress.beat()
                pause = every
            except Unavailable as error:
                self._progress.beat(awaited(error))
                pause = min(every, _SOON)
            except Exception:  # any error: without this thread every lease of this process would end
                logging.getLogger("headrace.renew").exception("renewing failed", extra={"action": Action.UNAVAILABLE})

    def _end_with(self, hung: Sequence[tuple[Run, float]]) -> None:
        """Take nothing more, and end the process. Hung runs are left to their leases."""
        with self._lock:
            self._ending = True
        left = {run.started.claim_id for run, _ in hung}
        end_process(hung, lambda: self._give_back_but(left), self._end)

    def _round(self) -> None:
        held = self.held()
        if held:
            self._ledger.renew(held, self._lease_ms)
        with self._lock:
            gone = sorted(self._given_up)
        if gone:
            self._release(gone)
            with self._lock:
                self._given_up.difference_update(gone)

    def _rest(self, seconds: float) -> bool:
        """Wait for the next round; whether to stop."""
        with self._progress.excused():  # a lease may be longer than a loop may be silent
            return self._stop.wait(seconds)
