"""The breakers of all models as a process knows them, for routing and dispatch: at most half a second old, and a tenth
while one of them is not closed, since jobs wait for a model until its bridge knows that a probe failed.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.generation.store.breakers import Breakers, Health

_LOOK_EVERY: Final = 0.5  # seconds
_LOOK_OFTEN: Final = 0.1


class KnownBreakers:
    """Breakers of a ledger. Thread-safe. While the ledger does not answer, those hold that were read last."""

    def __init__(self, ledger: Ledger, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._breakers = ledger.of(Breakers)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: Mapping[str, Health] = {}
        self._known_at = float("-inf")

    def avoided(self) -> frozenset[str]:
        """Return the models that nobody may ask at the moment."""
        known, age_ms = self._look()
        return frozenset(model for model, each in known.items() if each.breaker.opens_in(each.now + age_ms))

    def groups(self) -> dict[str, int]:
        """Return how many groups may be sent to models whose breakers are not closed: none, or one that probes."""
        known, age_ms = self._look()
        return {
            model: 0 if each.breaker.opens_in(each.now + age_ms) else 1
            for model, each in known.items()
            if each.breaker.open_until is not None
        }

    def _look(self) -> tuple[Mapping[str, Health], int]:
        with self._lock:
            age = self._monotonic() - self._known_at
            closed = all(each.breaker.open_until is None for each in self._known.values())
            if age > (_LOOK_EVERY if closed else _LOOK_OFTEN):
                try:
                    self._known, age = self._breakers.all(), 0.0
                    self._known_at = self._monotonic()
                except Unavailable:
                    age = 0.0 if not self._known else age
            return self._known, int(age * 1000)
