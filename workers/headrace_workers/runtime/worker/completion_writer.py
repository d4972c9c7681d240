"""Completions of a worker's claims: runs that are over while another completion is being written are written together.

A remote model answers its calls one by one. Under load each transaction, message and hint so serves several of them; a
run that is over alone is written at once.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.completion import Completed, CompletedTogether, RunOver
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import Outgoing
from headrace_workers.core.ledger.steps import BATCH
from headrace_workers.core.log import Action
from headrace_workers.runtime.wire.early_assignment import COMPANY, Assigner, behind
from headrace_workers.runtime.wire.follow_up import FollowUp
from headrace_workers.runtime.wire.notifier import Hint, Notifier

_FEW = 8  # ends: the bridge reports more of them, many at once
_AT_ONCE = 32  # claims in one transaction


@dataclass(slots=True, eq=False)
class _Waiting:
    """A run that waits to be written, and what came of that."""

    run: RunOver
    lane: int
    is_over: bool = False
    completed: Completed | None = None
    error: BaseException | None = None


class CompletionWriter:
    """Writer of completions, one transaction at a time. Thread-safe.

    `insist` repeats a call while the ledger is unavailable.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        assigner: Assigner,
        follow_up: FollowUp,
        notifier: Notifier,
        insist: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self._ledger = ledger
        self._assigner = assigner
        self._follow_up = follow_up
        self._notifier = notifier
        self._insist = insist
        self._waiting: deque[_Waiting] = deque()
        self._lock = threading.Lock()  # of those that wait
        self._turn = threading.Lock()  # of the thread that writes

    def write(self, run: RunOver, lane: int) -> Completed | None:
        """Write what came of a claim of this lane, send on what follows, and notify who waits for it. Return None when
        the lease was lost. Raise what writing this claim raised.
        """
        mine = _Waiting(run, lane)
        with self._lock:
            self._waiting.append(mine)
        with self._turn:  # mostly another thread has written it meanwhile
            while not mine.is_over:
                self._write(self._next())
        if mine.error is not None:
            raise mine.error
        return mine.completed

    def _next(self) -> list[_Waiting]:
        """Return the runs that are written next, of different jobs."""
        taken: list[_Waiting] = []
        jobs: set[str] = set()
        with self._lock:
            while self._waiting and len(taken) < _AT_ONCE:
                theirs = {item.job_id for item in self._waiting[0].run.settled}
                if jobs & theirs:
                    break
                jobs |= theirs
                taken.append(self._waiting.popleft())
        return taken

    def _write(self, group: Sequence[_Waiting]) -> None:
        try:
            done = self._complete([each.run for each in group], is_batch=all(each.lane == BATCH for each in group))
        except Exception as error:
            if len(group) > 1 and not isinstance(error, Unavailable):  # one that cannot be written fails alone
                for each in group:
                    self._write([each])
                return
            for each in group:
                each.error = error
        else:
            for each in group:
                each.completed = done.of.get(each.run.claim_id)
        finally:
            for each in group:
                each.is_over = True

    def _complete(self, runs: Sequence[RunOver], *, is_batch: bool) -> CompletedTogether:
        room = self._assigner.room(behind([item for run in runs for item in run.settled]))
        done: CompletedTogether = self._insist(lambda: self._ledger.complete_together(runs, room))
        self._assigner.send(done.assigned)
        if done.of:
            self._tell([end for each in done.of.values() for end in each.ended], next(iter(done.of.values())).now)
            self._notifier.notify(*_hints(runs, done, is_batch=is_batch))
        return done

    def _tell(self, ends: Sequence[Outgoing], now: int) -> None:
        """Notify clients that wait for these ends at once, before bridges begin to publish them. Bridges notify if this
        fails, and where there are many.
        """
        if not 0 < len(ends) <= _FEW:
            return
        try:
            self._follow_up.once(ends, now)
        except Unavailable:
            pass
        except Exception:
            logging.getLogger("headrace.run").exception("ends are told later", extra={"action": Action.STEP_FAILED})


def _hints(runs: Sequence[RunOver], done: CompletedTogether, *, is_batch: bool) -> tuple[Hint, ...]:
    """Return the hints of what may be there now: room in the queues, steps and events."""
    if is_batch and sum(len(each.settled) for each in runs) < COMPANY:
        return Hint.TRICKLE, Hint.EVENTS
    return (Hint.WORK, Hint.EVENTS) if done.assigned else (Hint.WORK, Hint.EVENTS, Hint.ENDS)
