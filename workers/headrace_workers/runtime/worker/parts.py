"""Parts of a worker for the parts that features build for their steps."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from headrace_workers.core.cached_values import once
from headrace_workers.core.feature import installed
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.progress import Progress
from headrace_workers.core.redis import RedisNames, redis_client
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.hints import Broadcast, Hint, HintListener

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class WorkerParts:
    """Parts of a worker for its features. `model` is the alias of the model that it holds. Thread-safe."""

    name: str
    settings: Settings
    pipeline: Pipeline
    ledger: Ledger
    progress: Progress
    model: str | None
    _built: dict[Callable[..., Any], Callable[[], Any]] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def once(self, build: Callable[["WorkerParts"], T]) -> T:
        """Return `build(self)`, the same object at each call. A build that failed is tried again."""
        with self._lock:
            built: Callable[[], T] = self._built.setdefault(build, once(partial(build, self)))
        return built()

    def of_features(self) -> Mapping[str, Callable[[], Any]]:
        """Return the builders of the parts of all features, by the names that stages need."""
        return {name: build for feature in installed() for name, build in feature.parts(self).items()}


def woken_by_changes(worker: WorkerParts) -> Broadcast:
    """Begin to listen for changes, and return the receiver that is set when answers or documents have changed."""
    followers = Broadcast()
    channel = RedisNames(worker.settings.kafka.prefix).hints
    client = redis_client(worker.settings.redis)
    HintListener(client, channel, {Hint.CHANGES: followers}, worker.progress.loop("ears")).start()
    return followers
