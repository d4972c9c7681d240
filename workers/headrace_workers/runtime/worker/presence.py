"""Hint over Redis of the queues that have a worker, so that people know what to start, and bridges what no worker does.
It is read in runtime/wire/live_queues.py.

A key a queue, which any worker of that queue puts off the end of. Workers that were killed put off nothing, and it
ends by itself; so does that of workers that were stopped, since another may still listen to the same queue.
"""

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import redis

from headrace_workers.core.outage import REDIS_ERRORS, awaited
from headrace_workers.core.progress import Loop
from headrace_workers.runtime.wire.redis_names import RedisNames

BEAT_SECONDS: Final = 5.0
KEEP_SECONDS: Final = 15.0  # three beats: one may come late, and one may be lost


class Presence:
    """Shows, while its body runs, that a worker listens to these queues. Redis may come and go meanwhile."""

    def __init__(
        self,
        client: redis.Redis,
        names: RedisNames,
        queues: Sequence[str],
        loop: Loop,
        *,
        beat: float = BEAT_SECONDS,
        keep: float = KEEP_SECONDS,
    ) -> None:
        self._redis = client
        self._keys = [names.listens(queue) for queue in queues]
        self._progress = loop
        self._beat = beat
        self._keep_ms = int(keep * 1000)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="presence", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()

    def _loop(self) -> None:
        while True:
            try:
                pipeline = self._redis.pipeline(transaction=False)
                for key in self._keys:
                    pipeline.set(key, b"", px=self._keep_ms)
                pipeline.execute()
                self._progress.beat()
            except REDIS_ERRORS as error:
                self._progress.beat(awaited(error))
            if self._stop.wait(self._beat):
                return
