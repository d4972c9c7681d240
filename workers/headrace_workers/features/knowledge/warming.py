"""Reading of knowledge bases before the first question to them, in the background: the most used bases come first."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.outage import KeepsGoing
from headrace_workers.core.progress import Loop
from headrace_workers.features.knowledge.bases import BaseName, Bases
from headrace_workers.features.knowledge.store.base_uses import LatelyUsed
from headrace_workers.features.knowledge.store.bases import KnowledgeBases

_PAUSE: Final = 1.0  # s between two looks
_TELL_EVERY: Final = 30.0  # s
_MOST: Final = 1_000  # bases that are read


class Warming:
    """Reads bases that were used lately, as many as have room, whenever all were let go; and notes what is asked."""

    def __init__(self, ledger: Ledger, bases: Bases) -> None:
        self._ledger = ledger
        self._bases = bases
        self._warmed = 0  # which beginning of what is followed they were read for
        self._untold: Counter[tuple[str, str]] = Counter()

    def warm(self, loop: Loop) -> int:
        """Read what is to be in memory and is not; how many bases. Unavailable with the ledger."""
        begun = self._bases.begun
        if begun == self._warmed:
            return 0
        coming = self._fitting(self._ledger.of(KnowledgeBases).lately_used(_MOST))
        passages = 0
        try:
            for number, each in enumerate(coming):
                loop.doing = _words(coming, number, passages)
                with loop.excused():  # a large one takes a minute
                    self._read(each)
                loop.beat()
                passages += each.passages
        finally:
            loop.doing = None
        self._warmed = begun
        return len(coming)

    def tell(self) -> None:
        """Write to the ledger how often each base was asked since the last time. Raise Unavailable as the ledger does;
        the counts are written later."""
        self._untold.update(self._bases.asked())
        if self._untold:
            self._ledger.of(KnowledgeBases).asked(self._untold)
            self._untold.clear()

    def _read(self, base: LatelyUsed) -> None:
        try:
            self._bases.read(BaseName(base.tenant, base.knowledge))
        except Unavailable:
            raise
        except Exception as error:  # it concerns those alone who will ask for this base
            log("recall", logging.WARNING, Action.BASE_NOT_READ,
                f"knowledge base {base.knowledge} could not be read before it is asked for: {type(error).__name__}",
                tenant=base.tenant)  # fmt: skip

    def _fitting(self, wanted: list[LatelyUsed]) -> list[LatelyUsed]:
        room, found = self._bases.room, []
        for each in wanted:
            if each.passages <= room:
                room -= each.passages
                found.append(each)
        return found


class KeepsWarm(KeepsGoing):
    """Keeps doing so, from a thread of its own. Without an embedder there is nothing to be done, for now."""

    def __init__(self, ledger: Ledger, bases: Callable[[], Bases], loop: Loop) -> None:
        super().__init__(loop)
        self._ledger = ledger
        self._bases = bases
        self._warming: Warming | None = None
        self._reported_at = time.monotonic()

    def _look(self) -> None:
        if self._warming is None:
            try:
                self._warming = Warming(self._ledger, self._bases())
            except Unavailable:  # a question gets the error that there is no embedder
                self._stop.wait(_PAUSE)
                return
        self._warming.warm(self._progress)
        if time.monotonic() - self._reported_at >= _TELL_EVERY:
            self._warming.tell()
            self._reported_at = time.monotonic()
        self._stop.wait(_PAUSE)


def _words(coming: list[LatelyUsed], number: int, passages: int) -> str:
    total = sum(each.passages for each in coming)
    return (
        f"reads knowledge bases before they are asked: {number:,} of {len(coming):,} are in memory, "
        f"{passages:,} of {total:,} passages"
    )
