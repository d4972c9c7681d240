"""Moderation with a time limit, whatever a detector does: a detector that hangs holds the text that it looks at."""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Final

from headrace_schemas import HeadraceError
from headrace_schemas.errors import Unavailable
from headrace_workers.core.log import Action, log
from headrace_workers.core.ports import Instructions, Moderation, Moderator

_CHARACTERS_A_SECOND: Final = 10_000  # of what is slowest to look at, with much to spare
_MOST_HUNG: Final = 4  # threads that never came back: from there on nothing more is asked until one does

_Verdicts = list[Moderation | HeadraceError]


@dataclass(frozen=True, slots=True)
class _Call:
    work: Callable[[], _Verdicts]
    answer: "Future[_Verdicts]"


def _ends(answer: "Future[_Verdicts]", seconds: float) -> bool:
    return bool(wait([answer], seconds).done)


class BoundedModerator:
    """Asks another moderator in a thread of its own, and waits no longer than `seconds`, and one more for each 10,000
    characters. Thread-safe.

    A group that comes to no end is asked about text by text, so that only those are held on which it hangs. A thread
    cannot be stopped: one that hangs is left alone.
    """

    def __init__(
        self, moderator: Moderator, seconds: float, ends: Callable[["Future[_Verdicts]", float], bool] = _ends
    ) -> None:
        """Bound each call. `ends` waits some seconds for an answer, and returns True if it is there."""
        self._moderator = moderator
        self._ends = ends
        self._seconds = seconds
        self._idle: queue.SimpleQueue[queue.SimpleQueue[_Call]] = queue.SimpleQueue()
        self._hung = 0
        self._lock = threading.Lock()

    def moderate(
        self,
        texts: Sequence[str],
        tenants: Sequence[str] | None = None,
        instructions: Sequence[Instructions | None] | None = None,
    ) -> list[Moderation | HeadraceError]:
        """Return a verdict for each text, or an error if no verdict comes in time."""
        verdicts = self._ask(texts, tenants, instructions)
        if verdicts is not None:
            return verdicts
        if len(texts) == 1:
            return [self._late()]
        found: _Verdicts = []
        for place, text in enumerate(texts):
            tenant = None if tenants is None else [tenants[place]]
            alone = self._ask([text], tenant, None if instructions is None else [instructions[place]])
            found += [self._late()] if alone is None else alone
        return found

    def _ask(
        self, texts: Sequence[str], tenants: Sequence[str] | None, instructions: Sequence[Instructions | None] | None
    ) -> _Verdicts | None:
        """Return the answer; None if it does not come in time, or if too many threads hang already."""
        if self._hung >= _MOST_HUNG:
            return None
        call = _Call(lambda: self._moderator.moderate(texts, tenants, instructions), Future())
        hand = self._hand()
        hand.put(call)
        if not self._ends(call.answer, self._seconds + sum(map(len, texts)) / _CHARACTERS_A_SECOND):
            self._give_up(call.answer, hand)
            return None
        self._idle.put(hand)
        return call.answer.result()

    def _hand(self) -> "queue.SimpleQueue[_Call]":
        """Return the queue that takes a call: of an idle thread, or of a new one."""
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            hand: queue.SimpleQueue[_Call] = queue.SimpleQueue()
            threading.Thread(target=_work, args=(hand,), name="moderation", daemon=True).start()
            return hand

    def _give_up(self, answer: "Future[_Verdicts]", hand: "queue.SimpleQueue[_Call]") -> None:
        with self._lock:
            self._hung += 1
        log("moderation", logging.ERROR, Action.DETECTOR_HANGS, "moderation does not finish: its texts are held",
            threads=self._hung)  # fmt: skip

        def back(_answer: "Future[_Verdicts]") -> None:
            with self._lock:
                self._hung -= 1
            self._idle.put(hand)

        answer.add_done_callback(back)

    def _late(self) -> HeadraceError:
        return Unavailable(f"moderation came to no end within {self._seconds:g} s (HEADRACE_DETECTOR_TIME); it is held")


def _work(hand: "queue.SimpleQueue[_Call]") -> None:
    while True:
        call = hand.get()
        try:
            call.answer.set_result(call.work())
        except BaseException as error:
            call.answer.set_exception(error)
