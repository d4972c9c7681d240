"""Units that follow from published records, such as webhooks: written, and sent to their worker at once if there is
room.

A bridge does this with everything that it publishes. A worker that ends a job may do it before; then there is nothing
left.
"""

from collections.abc import Callable, Sequence

from headrace_workers.core.ledger.event_units import NewUnit
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import Outgoing
from headrace_workers.runtime.wire.early_assignment import Assigner

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
