"""Incidents of a bridge, reported in the ledger, where `headrace status` finds them."""

from collections.abc import Mapping
from threading import Lock

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ports import Clock

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
