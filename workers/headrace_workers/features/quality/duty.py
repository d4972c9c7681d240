"""The computation of pass rates by one bridge at intervals; readers get the stored result. NumPy is imported only
there.
"""

import logging
from collections.abc import Callable
from typing import Final

from headrace_workers.core.clock import Clock
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.features.quality.store import Labels, PassRates

DUTY: Final = "pass_rates"
EVERY: Final = 300.0  # seconds
MOST_JOBS: Final = 20_000  # of a tenant, the newest


class LiveRates:
    """The pass rates of a ledger. Belongs to the thread that calls `once`. `every`: seconds between two times."""

    def __init__(self, *, ledger: Ledger, bridge: str, clock: Clock, every: float = EVERY) -> None:
        self._ledger = ledger
        self._bridge = bridge
        self._clock = clock
        self._every = every
        self._looked_at = float("-inf")

    def once(self, alive: Callable[[], object] = lambda: None) -> int:
        """Compute the rates that are due; return the number of tenants. `alive` is called after each. Raise
        Unavailable.
        """
        now = self._clock.monotonic()
        if now - self._looked_at < self._every:
            return 0
        # The duty is held for as long as what was found is good for: no other bridge does it meanwhile.
        mine = self._ledger.hold(DUTY, self._bridge, int(self._every * 1000))
        count = self._work_all_out(alive) if mine else 0
        self._looked_at = now  # set last: where the ledger was away, all is done when that is back
        return count

    def _work_all_out(self, alive: Callable[[], object]) -> int:
        labelled = {row.tenant for row in self._ledger.of(Labels).counted() if row.kind == "criterion"}
        for tenant in sorted(labelled):
            self._work_out(tenant)
            alive()
        for tenant in set(self._ledger.of(PassRates).tenants()) - labelled:
            self._ledger.of(PassRates).put(tenant, [])
        return len(labelled)

    def _work_out(self, tenant: str) -> None:
        from headrace_workers.features.quality.assessment import pass_rates

        labels, verdicts, samples = self._ledger.of(Labels).with_verdicts(tenant, MOST_JOBS)
        try:
            rates = pass_rates(labels, verdicts, samples)
        except (ValueError, ArithmeticError) as error:  # of one tenant's figures: the others have theirs
            log(DUTY, logging.ERROR, Action.STEP_FAILED, f"no pass rate: {type(error).__name__}", tenant=tenant)
            rates = []
        self._ledger.of(PassRates).put(tenant, rates)
        log(DUTY, logging.DEBUG, Action.TAKEN, "pass rates were worked out", tenant=tenant, rates=len(rates))
