"""Continuous check that the ledger takes writes, on a thread of its own, so that callers never wait."""

import threading
import time
from collections.abc import Callable
from typing import Final

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.accepted import Probe
from headrace_workers.core.outage import KeepsGoing, awaited
from headrace_workers.core.progress import Awaited, Loop
from headrace_workers.core.sql.database_errors import Unwritable

_EVERY: Final = 2.0  # seconds from one write to the next
_SOON: Final = 1.0  # while it takes none
_SILENT: Final = 3.0  # seconds without an answer: a request waits no longer, either
_REMEMBERED: Final = 10.0  # seconds for which a write that was refused counts: the probe's own needs little room


class Writes(KeepsGoing):
    """Writer to a row of the ledger every two seconds. `loop` reports what it waits for."""

    def __init__(self, probe: Probe, loop: Loop, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(loop)
        self._probe = probe
        self._monotonic = monotonic
        self._rest = threading.Event()
        self._began: float | None = monotonic()  # the write that is under way
        self._trouble: str | None = "it has not been asked yet"
        self._pause = 0.0
        self._refused: tuple[str, float] | None = None

    @property
    def trouble(self) -> str | None:
        """Return why the ledger takes no writes, in words that anybody may read; None where it does."""
        now, began, refused = self._monotonic(), self._began, self._refused
        if self._trouble is None and began is not None and now - began > _SILENT:
            return f"no answer within {_SILENT:g} s"
        if self._trouble is None and refused is not None and now - refused[1] < _REMEMBERED:
            return refused[0]
        return self._trouble

    def refused(self, error: Unwritable) -> None:
        """Know that somebody else's write was refused."""
        self._refused = (error.plain, self._monotonic())

    def stop(self, seconds: float | None = None) -> None:
        """Write no more, and wait until that is so, for so many seconds at most."""
        self._stop.set()
        self._rest.set()
        super().stop(seconds)
        self._probe.close()

    def _look(self) -> Awaited | None:
        self._rest.wait(self._pause)
        self._pause, self._began = _SOON, self._monotonic()
        try:
            self._probe.write()
        except Unavailable as error:
            self._trouble = error.plain if isinstance(error, Unwritable) else "it does not answer"
            return awaited(error)
        finally:
            self._began = None
        self._pause, self._trouble = _EVERY, None
        return None
