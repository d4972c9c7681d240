"""Models on other machines that one worker asks. Each has its queue, its open calls, its client and its consumer: a
provider that hangs delays no other. They follow the catalogue while the worker runs.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from headrace_schemas import HeadraceError
from headrace_workers.core.log import Action, log
from headrace_workers.core.outage import KeepsGoing
from headrace_workers.core.pipeline.stage import model_queue
from headrace_workers.core.progress import Awaited, Progress
from headrace_workers.core.redis import RedisNames
from headrace_workers.runtime.wire.celery_app import queue_of
from headrace_workers.runtime.worker.consumer import ClaimConsumer, IoRuns

_EVERY: Final = 1.0  # seconds between two looks at the catalogue
_AGAIN: Final = 5.0  # and to the next try of an entry that could not be used


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """An entry of the catalogue as a worker sees it: `content` differs once the entry has changed."""

    open_calls: int
    content: object


class RemoteModels(KeepsGoing):
    """The models on other machines of one worker, by alias.

    `listed` returns the entries to serve. `hold` makes an entry's client and steps, and replaces those that it had:
    open calls end with the old client. It raises HeadraceError for an entry that cannot be used; `complain` gets the
    reason, and the other models are served.
    """

    def __init__(
        self,
        *,
        listed: Callable[[], Mapping[str, RemoteEntry]],
        hold: Callable[[str], None],
        run: Callable[..., None],
        complain: Callable[[str], None],
        app: Any,
        names: RedisNames,
        io_runs: IoRuns,
        progress: Progress,
    ) -> None:
        super().__init__(progress.loop("models"))
        self._listed, self._hold, self._complain = listed, hold, complain
        self._run, self._app, self._names, self._io_runs, self._of = run, app, names, io_runs, progress
        self._held: dict[str, tuple[RemoteEntry, ClaimConsumer]] = {}
        self._failed: dict[str, tuple[RemoteEntry, float]] = {}

    @property
    def queues(self) -> dict[str, int]:
        """Return the queues that are listened to, with how many calls of each are made side by side."""
        return {model_queue(alias): entry.open_calls for alias, (entry, _) in list(self._held.items())}

    def stop(self, seconds: float | None = None) -> None:
        """Take no more work. Running calls go on."""
        self._stop.set()
        for _, consumer in list(self._held.values()):  # the other thread may look meanwhile
            consumer.stop()

    def look(self, *, strict: bool = False) -> None:
        """Begin to serve new entries, and those that have changed; end those that are gone. If `strict`, raise the
        HeadraceError of an entry that cannot be used.
        """
        entries = self._listed()
        for alias, (entry, consumer) in list(self._held.items()):
            if entries.get(alias) != entry:
                consumer.stop()
                del self._held[alias]
        for alias, entry in entries.items():
            if alias not in self._held and self._may_try(alias, entry):
                self._begin(alias, entry, strict=strict)

    def _look(self) -> Awaited | None:
        self.look()
        self._stop.wait(_EVERY)
        return None

    def _may_try(self, alias: str, entry: RemoteEntry) -> bool:
        failed, at = self._failed.get(alias, (None, 0.0))
        return failed != entry or time.monotonic() - at >= _AGAIN

    def _begin(self, alias: str, entry: RemoteEntry, *, strict: bool) -> None:
        try:
            self._hold(alias)
        except HeadraceError as error:
            if strict:
                raise
            if self._failed.get(alias, (None, 0.0))[0] != entry:
                log("worker", logging.ERROR, Action.MODEL_LEFT_OUT, f"it is not served: {error}", model=alias)
            self._complain(f"{alias} is not served: {error}")
            self._failed[alias] = entry, time.monotonic()
            return
        self._failed.pop(alias, None)
        name = self._names.queue(model_queue(alias))
        self._io_runs.allow(name, entry.open_calls)
        consumer = ClaimConsumer(
            self._app,
            queue_of(self._names, model_queue(alias)),
            partial(self._run, queue=name),
            self._of.loop(f"calls of {alias}"),  # an alias may be the name of another loop
            has_room=partial(self._io_runs.wait_for_room, name),
        )
        self._held[alias] = entry, consumer
        consumer.start()
        log("worker", logging.INFO, Action.MODEL_LOADED, f"up to {entry.open_calls} calls at a time", model=alias)
