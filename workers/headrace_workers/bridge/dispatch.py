"""Ledger to Celery: claim what is most urgent, and send its id to the queue; never more than workers soon run."""

from collections.abc import Callable, Iterable

from headrace_workers.grouping import queues
from headrace_workers.ledger.claim import Claim
from headrace_workers.ledger.ingest import BATCH, INTERACTIVE
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.taskqueue import TaskQueue

_FLOOR = 10  # every so many claims of a queue, batch work goes first, so that it never starves


def lane_order(turn: int) -> tuple[int, int]:
    """Which lane is asked first at the n-th claim of a queue."""
    return (BATCH, INTERACTIVE) if turn % _FLOOR == _FLOOR - 1 else (INTERACTIVE, BATCH)


class Dispatch:
    """Fills the task queue up to `depth` groups a queue and lane."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        tasks: TaskQueue,
        aliases: Callable[[], Iterable[str]],
        bridge: str,
        lease_ms: int,
        group_size: int,
        depth: int,
    ) -> None:
        self._ledger = ledger
        self._tasks = tasks
        self._aliases = aliases
        self._bridge = bridge
        self._lease_ms = lease_ms
        self._group_size = group_size
        self._depth = depth
        self._turns: dict[str, int] = {}

    def once(self) -> int:
        """Send what there is room for; the number of groups sent."""
        names = queues(sorted(self._aliases()))
        waiting = self._tasks.waiting([(name, lane) for name in names for lane in (INTERACTIVE, BATCH)])
        sent = 0
        for name in names:
            room = {lane: self._depth - waiting[name, lane] for lane in (INTERACTIVE, BATCH)}
            while claim := self._claim(name, room):
                room[claim.lane] -= 1
                sent += 1
        return sent

    def _claim(self, queue: str, room: dict[int, int]) -> Claim | None:
        turn = self._turns.get(queue, 0)
        for lane in lane_order(turn):
            if room[lane] <= 0:
                continue
            claim = self._ledger.claim(
                queue, lane, limit=self._group_size, lease_ms=self._lease_ms, bridge=self._bridge
            )
            if claim is not None:
                self._turns[queue] = turn + 1
                self._send(claim)
                return claim
        return None

    def _send(self, claim: Claim) -> None:
        try:
            self._tasks.send(claim)
        except BaseException:
            self._ledger.release([claim.id])
            raise
