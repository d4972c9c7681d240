"""The letters that are on their way to one endpoint: how many at a time, and when the next ones need not wait for that.

Whoever sends holds one of the process's threads. A receiver that hangs may have one of them, and not one for each event
that it is told of meanwhile: while it is silent, what comes for it is kept off. It is silent when it takes four times
as long as it usually does, and a quarter of a second at least.

A letter that hangs says little of its receiver where others are answered: once a later one was, it is passed, and only
has its place. One alone that nobody has passed may be such a letter, too: it takes two to make a receiver silent that
has answered before.
"""

import asyncio
import itertools
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
        self._begun: dict[object, float] = {}  # what is on its way and was not passed, the oldest first
        self._passed: set[object] = set()  # what is on its way, while a later one was answered
        # Seconds to an answer. None: it was never asked, or did not answer one that no other passed.
        self._usual: float | None = None
        self.others_wait = False

    @property
    def idle(self) -> bool:
        """Return True if nothing is being sent."""
        return not self._begun and not self._passed

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
            if there_was:
                took = self._monotonic() - begun
                before = took if self._usual is None else self._usual
                self._usual = before + _NEW * (took - before)
                self._pass_all_before(letter)
            elif letter not in self._passed:
                self._usual = None

        try:
            yield answered
        finally:
            self._begun.pop(letter, None)
            self._passed.discard(letter)
            self._gate.release()
            self._news.set()
            self._news = asyncio.Event()

    def _pass_all_before(self, letter: object) -> None:
        """Know that a letter was answered, and those that were sent before it were not."""
        if letter in self._begun:
            before = list(itertools.takewhile(lambda each: each is not letter, self._begun))
            self._passed.update(before)
            for each in before:
                del self._begun[each]

    def _patience(self) -> float:
        """Return the seconds until the receiver is silent."""
        silent = 1 if self._usual is None else 2
        oldest = next(itertools.islice(self._begun.values(), silent - 1, None), None)
        if oldest is None:
            return _LATEST
        usual = 0.0 if self._usual is None else self._usual
        return oldest + min(_LATEST, max(_SOONEST, _TIMES * usual)) - self._monotonic()

    def _kept_off(self) -> bool:
        self.others_wait = True
        return False
