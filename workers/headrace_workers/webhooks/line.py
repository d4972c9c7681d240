"""The letters that are on their way to one endpoint: how many at a time, and when the next ones need not wait for that.

Whoever sends holds one of the process's threads. A receiver that hangs may have one of them, and not one for each event
that it is told of meanwhile: while it is silent, what comes for it is kept off. It is silent when it takes four times
as long as it usually does, and a quarter of a second at least.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

ABREAST: Final = 8  # letters on their way to one endpoint, from this process
_TIMES: Final = 4.0  # as long as usual
_SOONEST: Final = 0.25  # seconds
_LATEST: Final = 2.0
_NEW: Final = 0.2  # of the usual time is that of the latest answer


class Line:
    """Belongs to one event loop. `others_wait`: somebody was kept off."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._gate = asyncio.Semaphore(ABREAST)
        self._news = asyncio.Event()
        self._begun: dict[object, float] = {}  # what is on its way, the oldest first
        self._usual: float | None = (
            None  # seconds to an answer; None: it did not answer the last one, or was never asked
        )
        self.others_wait = False

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self._begun

    async def begin(self) -> bool:
        """Wait until one more may send, beside those who do; False where it is kept off.

        Nobody sends beside others before the receiver has answered: it may be about to hang.
        """
        while self._begun and (left := self._patience()) > 0:
            if self._usual is not None:
                return True
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                continue
        return self._kept_off() if self._begun else True

    async def turn(self, holds: Callable[[], bool]) -> bool:
        """Wait for the turn of one letter; False where it is kept off. Who `holds` others on their way waits anyway."""
        while True:
            left = self._patience()
            if left <= 0 and not holds():
                return self._kept_off()
            try:
                async with asyncio.timeout(left if 0 < left < _LATEST else _LATEST):
                    return await self._gate.acquire()
            except TimeoutError:
                continue

    @contextmanager
    def on_its_way(self) -> Iterator[Callable[[bool], None]]:
        """The time of one letter, at its turn. What is yielded is told whether there was an answer."""
        letter, begun = object(), self._monotonic()
        self._begun[letter] = begun

        def answered(there_was: bool) -> None:
            took = self._monotonic() - begun
            before = took if self._usual is None else self._usual
            self._usual = before + _NEW * (took - before) if there_was else None

        try:
            yield answered
        finally:
            del self._begun[letter]
            self._gate.release()
            self._news.set()
            self._news = asyncio.Event()

    def _patience(self) -> float:
        """Seconds until the receiver is silent."""
        oldest = next(iter(self._begun.values()), None)
        if oldest is None:
            return _LATEST
        usual = 0.0 if self._usual is None else self._usual
        return oldest + min(_LATEST, max(_SOONEST, _TIMES * usual)) - self._monotonic()

    def _kept_off(self) -> bool:
        self.others_wait = True
        return False
