"""Duties of a ledger: each is done by one bridge at a time, and features add theirs. Duties share the reporter of
incidents, the count of crashes at one row, and the ledger's clock.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

from sqlalchemy import Row

from headrace_schemas.errors import Unavailable
from headrace_workers.core.admission import AdmissionRules
from headrace_workers.core.clock import Clock
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.progress import Awaited
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.hints import Hint, HintReceiver

_AGAIN_EVERY = 15.0  # seconds: what is not said again for a minute counts as over


class IncidentReporter:
    """Reporter of incidents. Each duty may report all its incidents as often as it likes: the ledger is written when
    they change, and now and then.

    Thread-safe.
    """

    def __init__(self, ledger: Ledger, bridge: str, clock: Clock) -> None:
        self._ledger = ledger
        self._bridge = bridge
        self._clock = clock
        self._lock = Lock()
        self._reported: dict[str, tuple[dict[str, str], float]] = {}

    def tell(self, duty: str, incidents: Mapping[str, str]) -> None:
        """Report all incidents of this duty now: by subject ("" for the duty itself) a reason. None: all is well."""
        now = self._clock.monotonic()
        with self._lock:
            reported, at = self._reported.get(duty, ({}, now))
            if reported == incidents and (not reported or now - at < _AGAIN_EVERY):
                return
            self._reported[duty] = (dict(incidents), now)
        try:
            self._ledger.tell(self._bridge, duty, incidents)
        except Unavailable:  # the duty will meet that itself, and tell it
            with self._lock:
                self._reported.pop(duty, None)

    def now(self) -> dict[str, str]:
        """Return all incidents that were reported last, a reason for each duty and subject."""
        with self._lock:
            return {
                f"{duty} {subject}".rstrip(): reason
                for duty, (reasons, _) in self._reported.items()
                for subject, reason in reasons.items()
            }


class Crashes:
    """The crashes of the rows of one table. Belongs to the thread that is in the middle of them.

    `add` writes down so many crashes more of a row, by its number. One is written down before something is begun, and
    taken back when it has come back, with any result: only those remain in which the process ended.
    """

    def __init__(self, add: Callable[[int, int], object], most: int) -> None:
        self._add = add
        self._most = most
        self._counted: set[int] = set()  # a ledger that was away kept these from being taken back

    def too_many(self, row: Row[Any]) -> int:
        """Return how many there are of a row, where it is not to be tried again; else 0."""
        there = int(row.crashes) - (row.number in self._counted)
        return there if there >= self._most else 0

    @contextmanager
    def counted(self, number: int) -> Iterator[None]:
        """Count one of this row while the body runs. Unavailable."""
        if number not in self._counted:
            self._add(number, 1)
            self._counted.add(number)
        try:
            yield
        finally:
            self._take_back(number)

    def close(self) -> None:
        """Take back what could not be taken back before."""
        for number in list(self._counted):
            self._take_back(number)

    def _take_back(self, number: int) -> None:
        with suppress(Unavailable):
            self._add(number, -1)
            self._counted.discard(number)


_ASK_EVERY = 1.0  # seconds; its users need no finer time


class LedgerTime:
    """Time by the ledger's clock. Belongs to one thread."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._last_read: tuple[int, float] | None = None  # what it said (ms), and when by ours

    def ms(self) -> int:
        """Return the ms since 1970."""
        now = self._clock.monotonic()
        if self._last_read is None or now - self._last_read[1] > _ASK_EVERY:
            self._last_read = self._ledger.now(), now
        ms, at = self._last_read
        return ms + int((now - at) * 1000)

    def ask_anew(self) -> None:
        """Ask the ledger at the next call."""
        self._last_read = None


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
