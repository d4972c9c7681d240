"""Ledger to Celery: claim what is most urgent, and send its id to the queue; never more than workers soon run."""

from collections.abc import Callable, Iterable, Mapping

from headrace_workers.core.ledger.claims import Claim, Wanted
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.steps import BATCH, INTERACTIVE
from headrace_workers.core.pipeline.routing import Pipeline, Queue, ServedModel
from headrace_workers.runtime.wire.taskqueue import TaskQueue

_FLOOR = 10  # of so many claims of a queue, one is batch work when there is any, so that it never starves
_WINDOW = 8  # a model's or an encoder's batch work is chosen by like length out of so many groups' steps
_LIGHT_LINGER_MS = 50  # and wait so long for company in the batch lane
_SOON, _IDLE = 0.25, 1.0  # seconds to the next look without a hint
# Groups that a worker runs side by side, for each that waits in Redis: a message a group is costly.
_RUNNING_PER_WAITING = 4
_LIGHT = (
    2  # groups whose size tokens do not decide may be so many times larger: a step costs microseconds, a message more
)


class Dispatch:
    """Dispatcher that fills the task queue up to `depth` groups a queue and lane.

    Batch work that makes no full group waits for company, that of a model or an encoder `linger_ms` at most: groups of
    one and three, as the first lines of a file made them, take a model as long as full ones. `limits` says of which
    models fewer groups are sent at a look, and how many.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        tasks: TaskQueue,
        pipeline: Pipeline,
        models: Callable[[], Iterable[ServedModel]],
        bridge: str,
        lease_ms: int,
        group_size: int,
        depth: int,
        linger_ms: int,
        limits: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._ledger = ledger
        self._tasks = tasks
        self._pipeline = pipeline
        self._models = models
        self._bridge = bridge
        self._lease_ms = lease_ms
        self._group_size = group_size
        self._depth = depth
        self._linger_ms = linger_ms
        self._limits = limits
        self._overtaken: dict[str, int] = {}  # interactive claims of a queue since batch work had its floor
        self.rest = _SOON  # seconds to the next look without a hint

    def once(self) -> int:
        """Send what there is room for; the number of groups sent."""
        queues = {queue.name: queue for queue in self._pipeline.queues(list(self._models()))}
        lanes = [(name, lane) for name in queues for lane in (INTERACTIVE, BATCH)]
        wanted = self._wanted(queues, self._tasks.waiting(lanes))
        # A worker that takes waiting claims sends no hint: there may be room again at any moment.
        self.rest = _SOON
        if not wanted:
            return 0
        claimed = self._ledger.claim(wanted, lease_ms=self._lease_ms, sender=self._bridge)
        claims = claimed.claims
        if not claims and len(wanted) == len(lanes):
            self.rest = _IDLE
        if claimed.lingers_ms is not None:
            self.rest = min(self.rest, claimed.lingers_ms / 1000)
        for position, claim in enumerate(claims):
            try:
                self._tasks.send(claim, ahead=self._goes_ahead(claim))
            except BaseException:
                self._ledger.release([unsent.id for unsent in claims[position:]])
                raise
        return len(claims)

    def went_out(self, claim: Claim) -> None:
        """Note that another process sent a claim: interactive work overtakes batch work there, too."""
        if claim.lane == INTERACTIVE:
            self._overtaken[claim.queue] = self._overtaken.get(claim.queue, 0) + 1

    def _wanted(self, queues: Mapping[str, Queue], waiting: Mapping[tuple[str, int], int]) -> list[Wanted]:
        wanted = []
        limits = self._limits()
        for (name, lane), count in waiting.items():
            room = max(self._depth, queues[name].concurrency // _RUNNING_PER_WAITING) - count
            if lane == BATCH and self._overtaken.get(name, 0) >= _FLOOR - 1:
                room = max(1, room)  # what waits there is being overtaken: one more, which will not be
            room = min(room, limits.get(queues[name].model or "", room))
            if room > 0:
                wanted.append(self._want(queues[name], lane, room))
        return wanted

    def _want(self, queue: Queue, lane: int, room: int) -> Wanted:
        if not queue.weight.sized:
            size, linger_ms = queue.most or self._group_size * _LIGHT, _LIGHT_LINGER_MS if lane == BATCH else 0
            return Wanted(queue.name, lane, room, size, linger_ms=min(linger_ms, self._linger_ms))
        if lane == INTERACTIVE:
            return Wanted(queue.name, lane, room, self._group_size)
        return Wanted(queue.name, lane, room, self._group_size, self._group_size * _WINDOW, self._linger_ms)

    def _goes_ahead(self, claim: Claim) -> bool:
        """Return True if a claim belongs to the share of batch work that goes ahead of interactive work."""
        overtaken = self._overtaken.get(claim.queue, 0)
        if claim.lane == INTERACTIVE:
            self.went_out(claim)
            return False
        if overtaken >= _FLOOR - 1:
            self._overtaken[claim.queue] = 0
            return True
        return False
