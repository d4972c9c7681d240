"""The workers of each queue, what is known of their rate, and how many are wanted: from one look at the ledger to the
next.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from headrace_workers.core.ledger.counts import ReadyWork, WorkDone
from headrace_workers.core.pipeline.scaling import (
    PATIENCE,
    DueWork,
    Peak,
    Rate,
    after_quiet,
    learn,
    workers_needed,
)
from headrace_workers.core.tables import NEVER

Workers = Mapping[str, Sequence[int]]  # by queue: how many claims each living worker runs side by side

_FORGOTTEN_SECONDS: Final = 86_400.0  # after which a queue without work and workers has no metrics any more


class ScaledQueue(NamedTuple):
    """A queue at a time (s since 1970): its workers, how many of them are busy, how many claims each runs side by side,
    the rate of one claim, and the peaks of the number of workers that are wanted.
    """

    seen_at: float
    workers: int
    busy: int
    slots: float
    rate: Rate
    peaks: tuple[Peak, ...]

    @property
    def wanted(self) -> int:
        """Return how many workers are wanted."""
        return self.peaks[0].workers

    @property
    def of_one_worker(self) -> float | None:
        """Return the work that one worker does in a second, or None if it is not known."""
        per_slot = self.rate.per_second
        return None if per_slot is None else per_slot * self.slots


_NEW: Final = ScaledQueue(0.0, 0, 0, 1.0, Rate(), ())


def _from_json(value: Sequence[Any]) -> ScaledQueue:
    queue = ScaledQueue(*value)
    return queue._replace(rate=Rate(*queue.rate), peaks=tuple(Peak(*peak) for peak in queue.peaks))


def scaled_queues(
    before: Mapping[str, Sequence[Any]],
    now: float,
    work: Sequence[ReadyWork],
    busy: Mapping[str, int],
    done: Mapping[str, WorkDone],
    workers: Workers | None,
) -> dict[str, ScaledQueue]:
    """Return the queues at this time, which follow from those of the look before (as JSON gives them back), what is
    ready, how many workers are busy, and what was done meanwhile. Without `workers`, those of before count.
    """
    known = {name: _from_json(value) for name, value in before.items()}
    ready: dict[str, list[DueWork]] = {}
    for row in work:
        seconds = PATIENCE[row.lane] if row.due >= NEVER else row.due / 1000 - now
        ready.setdefault(row.queue, []).append(DueWork(seconds, row.steps, float(row.tokens)))
    queues = {}
    for name in sorted({*known, *ready, *busy, *(workers or {})}):
        queue = known.get(name, _NEW)
        alive = (workers or {}).get(name, ())
        if workers is not None:
            queue = queue._replace(workers=len(alive), slots=sum(alive) / len(alive) if alive else queue.slots)
        if name in ready or name in busy or alive:
            queue = queue._replace(seen_at=now)
        if now - queue.seen_at > _FORGOTTEN_SECONDS:
            continue
        if name in done:
            queue = queue._replace(rate=learn(queue.rate, done[name].tokens, done[name].seconds))
        at_work = busy.get(name, 0)
        needed = workers_needed(ready.get(name, ()), queue.of_one_worker, current=queue.workers, busy=at_work)
        queues[name] = queue._replace(busy=at_work, peaks=after_quiet(queue.peaks, now, needed))
    return queues
