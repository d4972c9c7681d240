"""The knowledge bases that a worker holds in memory, kept like the ledger: a base is registered before it is read, so
that no change made meanwhile is missed.
"""

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace_schemas.attributes import AnyFilter
from headrace_schemas.errors import Unavailable
from headrace_workers.core.cached_values import once
from headrace_workers.core.ledger.change_feed import Mark, Position
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.outage import KeepsGoing
from headrace_workers.core.progress import Loop
from headrace_workers.features.knowledge.passages import Hit, Passages, chunks_of
from headrace_workers.features.knowledge.relevance_floor import embedded_questions
from headrace_workers.features.knowledge.store.documents import DocumentChange, KnowledgeBases, LatelyUsed
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.models.embedders.embedding_cache import embed_for

UNUSED: Final = 1_800.0  # s after which a base that nobody asks for is let go
MOST: Final = 200_000  # passages of all bases together, some 6 kB each; beyond, who was not asked for longest goes
_AT_ONCE: Final = 100  # documents that are read anew between two beats
STRETCH: Final = 500  # passages that are read before others get a turn, where nobody waits for them


class BaseName(NamedTuple):
    """The tenant of a knowledge base, and its name."""

    tenant: str
    knowledge: str


@dataclass(slots=True)
class _Held:
    """A base that is there, or is being read. Until it is there, `behind` are the documents that changed meanwhile."""

    used: float
    passages: "Future[Passages]" = field(default_factory=Future)
    behind: set[int] = field(default_factory=set)
    told: bool = False  # that some of its passages are found by words only
    wanted: threading.Event = field(default_factory=threading.Event)  # somebody asks for it

    @property
    def there(self) -> Passages | None:
        """Its passages; None while it is read."""
        return self.passages.result() if self.passages.done() else None


class Bases:
    """Knowledge bases by tenant and name. Thread-safe. A `Follower` keeps those up that are in memory.

    Where another embedder made the vectors, passages are found by their words only.
    """

    def __init__(
        self,
        ledger: Ledger,
        embedder: Embedder,
        *,
        unused: float = UNUSED,
        most: int = MOST,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._embedder = embedder
        self._unused = unused
        self._most = most
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._held: dict[BaseName, _Held] = {}
        self._needed = monotonic()  # when any was asked for last
        self._asked: Counter[BaseName] = Counter()
        self._mark: Mark | None = None  # the last change that was taken in
        self._everyday = once(lambda: embedded_questions(embedder))
        self.begun = 0  # how often all were let go, to be followed from then on

    def exists(self, tenant: str, knowledge: str) -> bool:
        """Return True if the tenant has a base of this name, if only an empty vector store. Unavailable."""
        with self._lock:
            held = self._held.get(BaseName(tenant, knowledge))
            if held is not None and held.there:
                return True
        return self._ledger.of(KnowledgeBases).exists(tenant, knowledge)

    def search(
        self,
        tenant: str,
        knowledge: str,
        queries: Sequence[str],
        k: int,
        vectors: NDArray[np.float32] | None = None,
        where: AnyFilter | None = None,
    ) -> list[list[Hit]]:
        """Return the `k` passages of a base that fit each query best, best first; none if it does not exist.

        `vectors` are the queries', (queries, dimensions), where the embedder has made them already. `where`: only of
        documents whose attributes it lets through. The first search of a base reads it from the ledger: Unavailable
        without it.
        """
        name = BaseName(tenant, knowledge)
        passages = self._passages(name)
        if not passages:
            return [[] for _ in queries]
        with self._lock:
            self._asked[name] += len(queries)
        if vectors is None:
            vectors = embed_for(self._embedder, [tenant] * len(queries), queries)
        return [passages.search(query, k, vector, where) for query, vector in zip(queries, vectors, strict=True)]

    def floor(self, tenant: str, knowledge: str) -> float:
        """Return the relevance floor that fits a base, which is read if need be. Unavailable without the ledger."""
        return self._passages(BaseName(tenant, knowledge)).floor(self._everyday)

    def read(self, name: BaseName) -> None:
        """Have a base in memory that nobody asked for yet; at once where that is so, or where another reads it.

        It takes half of the time that it could, so that look-ups go on beside; all of it, once somebody asks for the
        base. Unavailable with the ledger.
        """
        self._passages(name, wanted=False).floor(self._everyday)

    @property
    def room(self) -> int:
        """Return how many passages may still come."""
        with self._lock:
            return self._most - sum(len(held.there or ()) for held in self._held.values())

    def asked(self) -> Mapping[BaseName, int]:
        """Return how many questions each base was asked since the last call."""
        with self._lock:
            counts, self._asked = self._asked, Counter()
        return counts

    def begin(self, _loop: Loop) -> Position:
        """Let all go: what is asked for from now on is read after this position."""
        position = self._ledger.horizon()
        self._mark = self._ledger.of(KnowledgeBases).mark(position)
        with self._lock:
            self._held.clear()
            self.begun += 1
        return position

    def changed(self, after: Position, limit: int) -> Sequence[DocumentChange]:
        """Return the changes of documents after a position, in order."""
        return self._ledger.of(KnowledgeBases).changed(after, limit)

    def take_in(self, changes: Sequence[DocumentChange], loop: Loop) -> None:
        """Read the documents anew that changed, of those bases that are in memory. Unavailable with the ledger."""
        for name, document_ids in self._concerned(changes).items():
            for start in range(0, len(document_ids), _AT_ONCE):
                self._renew(name, document_ids[start : start + _AT_ONCE])
                loop.beat()
        self._mark = changes[-1].mark

    def idle(self) -> bool:
        """Return True if no base is in memory, and none was asked for lately."""
        with self._lock:
            return not self._held and self._monotonic() - self._needed > self._unused

    def holds(self) -> bool:
        """Return True if the ledger still has the change that was taken in last."""
        return self._mark is not None and self._ledger.of(KnowledgeBases).stands(self._mark)

    def tidy(self) -> None:
        """Rebuild what is due, and let bases go that nobody asks for."""
        with self._lock:
            there = [passages for held in self._held.values() if (passages := held.there) is not None]
            self._drop_unused()
        for passages in there:
            passages.compact()

    def _passages(self, name: BaseName, *, wanted: bool = True) -> Passages:
        with self._lock:
            self._needed = self._monotonic()
            held = self._held.get(name)
            reads = held is None
            if held is None:
                held = self._held[name] = _Held(self._monotonic())
            if wanted:
                held.used = self._monotonic()
                held.wanted.set()
        if reads:
            self._read(name, held)
        return held.passages.result()

    def _read(self, name: BaseName, held: _Held) -> None:
        """Read a base from the ledger. Everyone who waits for it gets the same error."""
        began = self._monotonic()
        try:
            passages = Passages(_yielding(chunks_of(self._ledger, *name), held.wanted), self._embedder)
            while behind := self._behind(name, held, passages):
                passages.update(self._now(name, behind))
        except BaseException as error:
            with self._lock:
                self._forget(name, held)
            held.passages.set_exception(error)
            return
        if passages:
            took = self._monotonic() - began
            log("recall", logging.INFO, Action.BASE_LOADED, f"knowledge base {name.knowledge} was read",
                tenant=name.tenant, passages=len(passages), seconds=round(took, 3))  # fmt: skip
            self._tell(name, held, passages)

    def _behind(self, name: BaseName, held: _Held, passages: Passages) -> set[int]:
        """Return the documents that are still to be read anew; if there are none, the base is ready from now on."""
        with self._lock:
            behind, held.behind = held.behind, set()
            if not behind:
                if not passages:
                    self._forget(name, held)  # the next request for it finds out whether it exists by then
                held.passages.set_result(passages)
        return behind

    def _concerned(self, changes: Iterable[DocumentChange]) -> dict[BaseName, list[int]]:
        """Return the documents to be read anew of each base in memory; tell a base that is being read of its own."""
        found: dict[BaseName, list[int]] = defaultdict(list)
        now = {change.document_id: change for change in changes}
        with self._lock:
            for document_id, change in now.items():
                gone = change.tenant is None or change.knowledge is None
                for name in list(self._held) if gone else [BaseName(change.tenant or "", change.knowledge or "")]:
                    held = self._held.get(name)
                    if held is None:
                        continue
                    passages = held.there
                    if passages is None:
                        held.behind.add(document_id)
                    elif not gone or document_id in passages:
                        found[name].append(document_id)
        return found

    def _renew(self, name: BaseName, document_ids: Collection[int]) -> None:
        with self._lock:
            held = self._held.get(name)
        passages = None if held is None else held.there
        if held is None or passages is None:
            return  # it was let go
        passages.update(self._now(name, document_ids))
        self._tell(name, held, passages)
        if not passages:
            with self._lock:
                self._forget(name, held)

    def _now(self, name: BaseName, document_ids: Collection[int]) -> dict[int, list[Any]]:
        return {document_id: list(chunks_of(self._ledger, *name, document_id)) for document_id in document_ids}

    def _forget(self, name: BaseName, held: _Held) -> None:
        if self._held.get(name) is held:
            del self._held[name]

    def _drop_unused(self) -> None:
        """Forget who was not asked for long; and, where there are too many passages, who was not for longest."""
        now = self._monotonic()
        total = 0
        for name, held in sorted(self._held.items(), key=lambda item: -item[1].used):
            passages = held.there
            if passages is None:
                continue
            if now - held.used > self._unused or (total and total + len(passages) > self._most):
                del self._held[name]
                log("recall", logging.INFO, Action.BASE_LET_GO, f"knowledge base {name.knowledge} was let go",
                    tenant=name.tenant, passages=len(passages), unused=round(now - held.used, 1))  # fmt: skip
            else:
                total += len(passages)

    def _tell(self, name: BaseName, held: _Held, passages: Passages) -> None:
        """Once, that passages of this base are found by words only."""
        if held.told or not passages.without_vectors:
            return
        held.told = True
        log(
            "recall",
            logging.WARNING,
            Action.WORDS_ONLY,
            f"{passages.without_vectors:,} of {len(passages):,} passages of knowledge base {name.knowledge} are found "
            f"by words only: their vectors are not of {self._embedder.id}; "
            f"`headrace knowledge add {name.knowledge} PATH…` with their files makes them anew",
            tenant=name.tenant,
        )


def _yielding(rows: Iterable[Any], wanted: threading.Event) -> Iterator[Any]:
    """Yield the same; until somebody wants them, others have as much time as this took."""
    began = time.monotonic()
    for number, row in enumerate(rows, start=1):
        yield row
        if number % STRETCH == 0 and not wanted.is_set():
            wanted.wait(time.monotonic() - began)
            began = time.monotonic()


# Reading of knowledge bases before the first question to them, in the background: the most used bases come first.

_PAUSE_BETWEEN_BASES: Final = 1.0  # s between two looks
_TELL_EVERY: Final = 30.0  # s
_MOST_WARMED: Final = 1_000  # bases that are read


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
        coming = self._fitting(self._ledger.of(KnowledgeBases).lately_used(_MOST_WARMED))
        passages = 0
        try:
            for number, used in enumerate(coming):
                loop.doing = _warming_text(coming, number, passages)
                with loop.excused():  # a large one takes a minute
                    self._read(used)
                loop.beat()
                passages += used.passages
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
        for used in wanted:
            if used.passages <= room:
                room -= used.passages
                found.append(used)
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
                self._stop.wait(_PAUSE_BETWEEN_BASES)
                return
        self._warming.warm(self._progress)
        if time.monotonic() - self._reported_at >= _TELL_EVERY:
            self._warming.tell()
            self._reported_at = time.monotonic()
        self._stop.wait(_PAUSE_BETWEEN_BASES)


def _warming_text(coming: list[LatelyUsed], number: int, passages: int) -> str:
    total = sum(used.passages for used in coming)
    return (
        f"reads knowledge bases before they are asked: {number:,} of {len(coming):,} are in memory, "
        f"{passages:,} of {total:,} passages"
    )
