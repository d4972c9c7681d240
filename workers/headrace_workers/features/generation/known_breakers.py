"""The breakers of all models as a process knows them. While one of them is not closed they are read ten times a second,
since jobs wait for a model until its bridge knows that a probe failed; else less often.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.generation.breaker import Breaker
from headrace_workers.features.generation.store.breakers import Breakers, Health

_LOOK_EVERY: Final = 0.5  # seconds
_LOOK_OFTEN: Final = 0.1


class KnownBreakers:
    """Breakers of a ledger, read every `look_every` seconds at most. Thread-safe."""

    def __init__(
        self, ledger: Ledger, monotonic: Callable[[], float] = time.monotonic, *, look_every: float = _LOOK_EVERY
    ) -> None:
        self._breakers = ledger.of(Breakers)
        self._monotonic = monotonic
        self._look_every = look_every
        self._lock = threading.Lock()
        self._known: Mapping[str, Health] = {}
        self._known_at = float("-inf")
        self._ahead = 0.0  # ms by which the ledger's clock is ahead of ours
        self._notes = 0

    def avoided(self) -> frozenset[str]:
        """Return the models that nobody may ask at the moment. While the ledger does not answer, what was read last
        holds.
        """
        known, now = self._last()
        return frozenset(model for model, each in known.items() if each.breaker.opens_in(now))

    def groups(self) -> dict[str, int]:
        """Return how many groups may be sent to models whose breakers are not closed: none, or one that probes. While
        the ledger does not answer, what was read last holds.
        """
        known, now = self._last()
        return {
            model: 0 if each.breaker.opens_in(now) else 1
            for model, each in known.items()
            if each.breaker.open_until is not None
        }

    def look(self) -> tuple[Mapping[str, Health], int]:
        """Return the health of the models that ever failed or were drilled, and the ledger's time (ms). Raise
        Unavailable where the ledger must be read, and does not answer.
        """
        with self._lock:
            is_calm = all(each.breaker.open_until is None for each in self._known.values())
            if self._monotonic() - self._known_at <= (self._look_every if is_calm else _LOOK_OFTEN):
                return self._known, self._now()
            notes = self._notes
        found = self._breakers.all()
        with self._lock:
            if self._notes == notes:  # else a change of our own is newer
                self._known, self._known_at = found, self._monotonic()
                self._set_clock(next((each.now for each in found.values()), 0))
            return self._known, self._now()

    def last(self, model: str) -> Breaker:
        """Return a model's breaker as it is known, however old that is."""
        with self._lock:
            known = self._known.get(model)
            return known.breaker if known else Breaker()

    def note(self, model: str, breaker: Breaker, now: int) -> None:
        """Note how this process changed a model's breaker, and when that was by the ledger's clock (ms)."""
        with self._lock:
            known = self._known.get(model)
            self._known = {**self._known, model: Health(breaker, known.drill if known else None, now)}
            self._notes += 1
            self._set_clock(now)

    def forget(self) -> None:
        """Let the next look read the ledger."""
        with self._lock:
            self._known_at = float("-inf")

    def _last(self) -> tuple[Mapping[str, Health], int]:
        try:
            return self.look()
        except Unavailable:
            with self._lock:
                return self._known, self._now()

    def _set_clock(self, now: int) -> None:
        self._ahead = now - self._monotonic() * 1000

    def _now(self) -> int:
        return int(self._monotonic() * 1000 + self._ahead)
