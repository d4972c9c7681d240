"""Duties of a ledger: each is done by one bridge at a time. Features add their own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from headrace_workers.core.admission import AdmissionRules
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ports import Clock
from headrace_workers.core.progress import Awaited
from headrace_workers.runtime.bridge.incident_reporter import IncidentReporter
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.listener import HintReceiver
from headrace_workers.runtime.wire.notifier import Hint

_NEVER = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeParts:
    """Parts of a bridge for the duties of features. `rules` are those by which it admits jobs."""

    name: str
    settings: Settings
    ledger: Ledger
    clock: Clock
    incidents: IncidentReporter
    rules: AdmissionRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Operations that a duty may use on its bridge while it has its turn.

    `tell(hint)` wakes the loops that see to the hint, here or else in other bridges; `tell_all` wakes them everywhere.
    `alive` says that the duty goes on. `rest(seconds)` waits, and returns early when the bridge stops.
    """

    tell: Callable[[Hint], object]
    tell_all: Callable[[Hint], object]
    alive: Callable[[], object]
    rest: Callable[[float], object]


class FeatureDuty(Protocol):
    """A duty that a feature gives the bridge, which runs it on a thread of its own.

    The `receivers` of a hint are set when it arrives, and when the bridge stops.
    """

    @property
    def receivers(self) -> Mapping[Hint, HintReceiver]:
        """Return the receivers of each hint."""

    def take_turn(self, turn: Turn) -> Awaited | None:
        """Do the work there is, and rest until there may be more. Return what the duty waits for, if anything."""

    def close(self) -> None:
        """Close what is open."""


class DutyLease:
    """Lease of one duty for so many `seconds`: for that time nobody does the duty if the bridge that had it was killed.

    Belongs to the thread that does it.
    """

    def __init__(self, name: str, *, ledger: Ledger, bridge: str, clock: Clock, seconds: float) -> None:
        self._name = name
        self._ledger = ledger
        self._bridge = bridge
        self._clock = clock
        self._seconds = seconds
        self.held_until = _NEVER

    def held(self) -> bool:
        """Return whether this bridge has it. The ledger is asked when half of the lease is gone. Unavailable."""
        now = self._clock.monotonic()
        if now < self.held_until - self._seconds / 2:
            return True
        mine = self._ledger.hold(self._name, self._bridge, int(self._seconds * 1000))
        self.held_until = now + self._seconds if mine else _NEVER
        return mine

    def give_up(self) -> None:
        """Ask the ledger before this is done again."""
        self.held_until = _NEVER
