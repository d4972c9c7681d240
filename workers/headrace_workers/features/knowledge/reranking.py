"""The passages that a search found, put into the order in which a model that reads them with the question has them.

Nothing depends on it: what fails, or takes too long, leaves the order as the search had it.
"""

import logging
import math
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.log import Action, log
from headrace_workers.features.knowledge.passages import Hit

_SENTENCE_TRANSFORMERS: Final = "sentence-transformers:"


class Reranker(Protocol):
    """Model that reads a question and a passage together, and scores how well the passage answers. Thread-safe; built
    after any fork.
    """

    @property
    def name(self) -> str:
        """Return its name in logs."""

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """Return a score for each passage, in their order: a higher one is better. Compare only the scores of one
        call.
        """


def load_reranker(name: str) -> Reranker:
    """Load the model behind `sentence-transformers:`, a folder or a name on the hub.

    ConfigurationError when it cannot be loaded, or is none that gives a pair of texts one figure.
    """
    if not name.startswith(_SENTENCE_TRANSFORMERS):
        raise ConfigurationError(
            f"HEADRACE_RERANKER is {name!r}: write {_SENTENCE_TRANSFORMERS}NAME, with a cross-encoder's folder or its "
            "name on the hub"
        )
    from headrace_workers.models.embedders.sentence_transformers_models import SentenceTransformersReranker

    return SentenceTransformersReranker.load(name.removeprefix(_SENTENCE_TRANSFORMERS))


_Call = tuple["Future[list[float]]", Callable[[], list[float]]]


class _RerankThread:
    """A thread of its own for calls that may take too long; it does not keep the process from ending."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._late: Future[Any] | None = None

    def call(self, what: Callable[[], list[float]]) -> "Future[list[float]] | None":
        """Return a future of the call; None while a call that nobody waits for any more still runs."""
        with self._lock:
            if self._late is not None and not self._late.done():
                return None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rerank", daemon=True)
                self._thread.start()
        future: Future[list[float]] = Future()
        self._calls.put((future, what))
        return future

    def leave(self, future: "Future[list[float]]") -> None:
        """Drop the call: nobody waits for its result. If it has not begun, it never will."""
        if not future.cancel():
            with self._lock:
                self._late = future

    def _run(self) -> None:
        while True:
            future, what = self._calls.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(what())
            except BaseException as error:
                future.set_exception(error)


@dataclass(frozen=True, slots=True)
class Reranking:
    """Asks a reranker, for `limit` seconds at most. Thread-safe; one call is computed at a time.

    A call that takes longer goes on beside, since nothing can end it; until it is done nobody waits for another.
    """

    reranker: Reranker
    limit: float
    _thread_of_calls: _RerankThread = field(default_factory=_RerankThread, init=False)

    def order(self, question: str, hits: Sequence[Hit]) -> list[Hit]:
        """Return the same passages, best first; as they came if the reranker does not answer."""
        if len(hits) < 2:
            return list(hits)
        future = self._thread_of_calls.call(lambda: self.reranker.scores(question, [hit.chunk.indexed for hit in hits]))
        if future is None:
            return list(hits)
        try:
            scores = future.result(self.limit)
        except TimeoutError:
            self._thread_of_calls.leave(future)
            self._tell(f"it takes more than {self.limit:g} s for {len(hits)} passages")
            return list(hits)
        except Exception as error:  # whatever the model's library raises
            self._tell(f"it fails: {type(error).__name__}: {error}")
            return list(hits)
        if len(scores) != len(hits) or not all(map(math.isfinite, scores)):
            self._tell(f"it gives {len(scores)} figures for {len(hits)} passages, or some that are no numbers")
            return list(hits)
        places = sorted(range(len(hits)), key=lambda place: -scores[place])
        return [hits[place] for place in places]

    def _tell(self, why: str) -> None:
        log("recall", logging.WARNING, Action.NOT_RERANKED,
            f"passages stay in the order of the search, for {self.reranker.name} does not say: {why}")  # fmt: skip
