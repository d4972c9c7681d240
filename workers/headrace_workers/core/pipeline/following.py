"""Units of work that follow from published records."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from headrace_schemas.topics import INBOUND
from headrace_workers.core.feature import installed
from headrace_workers.core.ledger.event_units import NewUnit
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import Outgoing

# Returns the units that follow from these records, at a time (ms by the ledger's clock). Thread-safe.
UnitsOf: TypeAlias = Callable[[Sequence[Outgoing], int], Sequence[NewUnit]]


class Following:
    """The features that make units of work of published records. Where there are none, this costs nothing."""

    def __init__(self, followers: Sequence[UnitsOf] = ()) -> None:
        self._followers = followers

    @classmethod
    def installed(cls, settings: Any, ledger: Ledger, believed: float = 0.0) -> "Following":
        """Return the followers of all features in a deployment with these settings. See `Feature.follows` for
        `believed`.
        """
        found = (feature.follows(settings, ledger, believed) for feature in installed())
        return cls([units for units in found if units is not None])

    def units(self, records: Sequence[Outgoing], now: int) -> list[NewUnit]:
        """Return the units that follow from these records, at `now` (ms by the ledger's clock).

        A refused record that is replayed goes back to its own topic as its sender wrote it. No unit follows from
        it: its headers are its sender's, and may name no type, or the type of a job's end.
        """
        records = [record for record in records if record.topic not in INBOUND]
        return [unit for units in self._followers for unit in units(records, now)]
