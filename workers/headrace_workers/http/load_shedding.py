"""Load shedding: new jobs are refused while they would only wait, as the ledger stood a moment ago."""

import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from typing import Final

from headrace_workers.core.ledger.counts import Pressure, QueueLane
from headrace_workers.core.ledger.steps import INTERACTIVE
from headrace_workers.http.batcher import Batcher
from headrace_workers.http.errors import Refusal, Why

_FRESH_SECONDS: Final = 1.0
_WAIT_FULL: Final = 5.0  # seconds to a next try
_WAIT_OLD: Final = 10.0


class LoadShedding:
    """The refusal of jobs that would only wait. Belongs to the event loop.

    `most` jobs may be open in the ledger: beyond that ingest takes none, and new jobs would pile up in Kafka. An
    interactive job is refused while those before it have waited `longest` seconds in its queue; bulk work may wait.
    """

    def __init__(
        self,
        look: Callable[[Collection[QueueLane]], Pressure],
        executor: Executor,
        *,
        most: int,
        longest: float,
        patience: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        def together(wanted: list[frozenset[QueueLane]]) -> list[Pressure]:
            found = look(frozenset().union(*wanted))
            return [found] * len(wanted)

        self._look: Batcher[frozenset[QueueLane], Pressure] = Batcher(together, executor, patience=patience)
        self._most = most
        self._longest_ms = longest * 1000
        self._monotonic = monotonic
        self._seen: Pressure = Pressure(0)
        self._places: frozenset[QueueLane] = frozenset()
        self._seen_at = float("-inf")

    async def check(self, places: Collection[QueueLane]) -> None:
        """Raise 429 where jobs in one of these places would wait too long, or the ledger is full."""
        wanted = frozenset(places)
        now = self._monotonic()
        fresh = now - self._seen_at <= _FRESH_SECONDS
        if not (fresh and wanted <= self._places):
            looked = wanted | self._places if fresh else wanted
            self._seen = await self._look.ask(looked)
            self._places, self._seen_at = looked, now
        if self._seen.active >= self._most:
            raise Refusal(
                Why.LEDGER_FULL,
                f"{self._seen.active} jobs are open; the limit is {self._most}: send again when some have ended",
                retry_after=_WAIT_FULL,
            )
        for queue, lane in wanted:
            age = self._seen.ages.get((queue, lane), 0)
            if lane == INTERACTIVE and age > self._longest_ms:
                raise Refusal(
                    Why.QUEUE_AGE,
                    f"interactive jobs have waited {age / 1000:.0f} s in the queue {queue}: send again later, "
                    "or as bulk work (lane batch)",
                    retry_after=_WAIT_OLD,
                )
