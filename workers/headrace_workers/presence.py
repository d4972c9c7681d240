"""Which queues have a worker that listens: a hint, over Redis, that tells people what to start. Nothing depends on it.

A key a queue, which any worker of that queue puts off the end of. Workers that were killed put off nothing, and it
ends by itself; so does that of workers that were stopped, since another may still listen to the same queue.
"""

import logging
import threading
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Final, Self

import redis

from headrace_workers.log import Action, log

BEAT_SECONDS: Final = 5.0
KEEP_SECONDS: Final = 15.0  # three beats: one may come late, and one may be lost


def presence_key(queue: str) -> str:
    """The key in Redis that is there while a worker listens to a queue."""
    return f"headrace.listens:{queue}"


class Presence:
    """Shows, while its body runs, that a worker listens to these queues. Redis may come and go meanwhile."""

    def __init__(
        self, client: redis.Redis, queues: Sequence[str], *, beat: float = BEAT_SECONDS, keep: float = KEEP_SECONDS
    ) -> None:
        self._redis = client
        self._queues = queues
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
                for queue in self._queues:
                    pipeline.set(presence_key(queue), b"", px=self._keep_ms)
                pipeline.execute()
            except (redis.RedisError, OSError) as error:
                log("presence", logging.DEBUG, Action.UNAVAILABLE, "Redis did not take a sign of life",
                    reason=type(error).__name__)  # fmt: skip
            if self._stop.wait(self._beat):
                return


def served(client: redis.Redis, queues: Collection[str]) -> frozenset[str] | None:
    """Those of these queues that a worker listens to; None when Redis does not answer."""
    names = list(queues)
    if not names:
        return frozenset()
    try:
        found = client.mget([presence_key(name) for name in names])
    except (redis.RedisError, OSError):
        return None
    return frozenset(name for name, value in zip(names, found, strict=True) if value is not None)
