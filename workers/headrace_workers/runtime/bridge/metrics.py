"""The duty of metrics: one bridge at a time looks at the ledger every few seconds, and writes down what it sees."""

from collections.abc import Callable, Mapping
from typing import Final

from headrace_workers.core.clock import Clock
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.metrics import LedgerMetrics
from headrace_workers.runtime.bridge.duty import DutyLease, Turn
from headrace_workers.runtime.wire.hints import Hint, HintReceiver

LEASE_SECONDS: Final = 30.0  # seconds: longer than the longest look, which the database ends after 10
EVERY: Final = 5.0  # seconds from one look to the next
_SHARE: Final = 0.01  # of the time at most that looks may take: at a million ready jobs they are rarer


class MetricsDuty:
    """The metrics of a ledger. Belongs to the thread that calls `take_turn`. `workers` returns the workers that live
    (core/redis.py).
    """

    receivers: Mapping[Hint, HintReceiver] = {}

    def __init__(
        self,
        *,
        ledger: Ledger,
        lease: DutyLease,
        clock: Clock,
        workers: Callable[[], Mapping[str, list[int]] | None] = lambda: None,
    ) -> None:
        self._metrics = ledger.of(LedgerMetrics)
        self._workers = workers
        self._lease = lease
        self._clock = clock
        self._next_at = float("-inf")

    def take_turn(self, turn: Turn) -> None:
        """Look if it is time, unless another bridge does. Rest, no longer than the lease needs. Unavailable."""
        if self._lease.held() and self._clock.monotonic() >= self._next_at:
            self.once()
        turn.rest(EVERY)

    def once(self) -> None:
        """Look, and write down what is seen. Unavailable."""
        began = self._clock.monotonic()
        before = self._metrics.last()
        self._metrics.put(self._metrics.look(before.state if before else {}, self._workers()))
        now = self._clock.monotonic()
        self._next_at = now + (now - began) / _SHARE

    def close(self) -> None:
        """Close what is open."""
        self._lease.give_up()
