"""Consumers of claims in a worker: Celery's, which outlives its connections, one for interactive work, and one for
stages that wait for other servers; and the hint that this worker is present.
"""

import logging
import queue
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

import redis
from celery.concurrency.thread import TaskPool
from celery.worker.consumer import Consumer
from celery.worker.consumer import consumer as module
from celery.worker.state import maybe_shutdown
from kombu.asynchronous import get_event_loop, set_event_loop
from kombu.entity import Queue

from headrace_workers.core.log import Action
from headrace_workers.core.outage import REDIS_ERRORS, awaited
from headrace_workers.core.progress import Loop
from headrace_workers.core.redis import RedisNames, tell_alive, tell_gone

# Celery's consumer, which outlives its connections to Redis, and tells of its progress.
#
# The pool and its model stay through every outage of Redis: a model is loaded once.

_FIRST_PAUSE: Final = 0.2  # seconds, and so much longer each time
_LONGEST_PAUSE: Final = 2.0


def consumer_that_tells(loop: Loop) -> type[Consumer]:
    """Return a class of consumer that reports its turns to this loop."""
    return type("TellingConsumer", (_Consumer,), {"progress": loop})


class _Consumer(Consumer):  # type: ignore[misc]
    progress: Loop
    of_connection: frozenset[Any] | set[Any] = frozenset()  # what is called at each turn for the connection's sake

    def connect(self) -> Any:
        """Connect for reading, however long it takes."""
        if self.hub is None:
            return super().connect()
        # Celery leaves the callbacks of earlier connections there: they would go on to read from what is dead.
        self.hub.on_tick -= self.of_connection
        others = set(self.hub.on_tick)
        connection = super().connect()
        self.of_connection = self.hub.on_tick - others
        return connection

    def ensure_connected(self, conn: Any) -> Any:
        """Try again until Redis answers, or the worker is to stop."""

        def tell(error: BaseException, _pause: float) -> None:
            self.progress.beat(awaited(error))

        conn.ensure_connection(
            tell,
            interval_start=_FIRST_PAUSE,
            interval_step=_FIRST_PAUSE,
            interval_max=_LONGEST_PAUSE,
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        return conn

    def register_with_event_loop(self, hub: Any) -> None:
        """Begin the turn of a new connection."""
        super().register_with_event_loop(hub)
        hub.on_tick.add(self.progress.beat)
        set_event_loop(hub)  # forgotten when a connection is lost; the pool of threads asks for it

    def on_connection_error_before_connected(self, exc: BaseException) -> None:
        """Do nothing: the outage is reported as progress, and not logged."""
        self.progress.beat(awaited(exc))

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        """Put the dead connection away."""
        self.progress.beat(awaited(exc))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns each time of a default that may change, and that is set here
            super().on_connection_error_after_connected(exc)


def _is_news(record: logging.LogRecord) -> bool:
    # progress.py logs the state of a connection once, and not at every try.
    return module.CONNECTION_RETRY not in (record.msg, *(record.args or ()))


logging.getLogger(module.__name__).addFilter(_is_news)


# Celery's pool of threads, which tells the worker's loop when one of them is free.
#
# Without prefetching, the loop asks Redis for the next message only when it turns, and a thread that ends does not turn
# it: the worker would sleep until its next timer, with work waiting.


class WakingThreads(TaskPool):  # type: ignore[misc]
    """Pool of threads that wakes the worker's loop at the end of every task."""

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        """Hand a task to a thread."""
        result = super().on_apply(*args, **kwargs)
        result.f.add_done_callback(_wake)
        return result


def _wake(_future: object) -> None:
    loop = get_event_loop()
    if loop is not None:
        loop.call_soon(_nothing)


def _nothing() -> None:
    """Do nothing: the loop is woken for its own next turn."""


_PAUSE = 1.0  # seconds before listening again when Redis does not answer
_WAIT = 1.0  # and to the next look whether to stop


class ClaimConsumer:
    """Consumer that takes claims from one queue, in addition to Celery, and runs them in a thread of its own.

    `options` are those of the transport. Nothing is taken before `has_room` returns True; it waits for so many seconds.
    """

    def __init__(
        self,
        app: Any,
        queue: Queue,
        run: Callable[..., None],
        loop: Loop,
        *,
        options: Mapping[str, Any] | None = None,
        has_room: Callable[[float], bool] = lambda _: True,
    ) -> None:
        self._app = app
        self._queue = queue
        self._run = run
        self._progress = loop
        self._options = options
        self._has_room = has_room
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=loop.name, daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self, wait: float = 0.0) -> None:
        """Take nothing more; wait so many seconds for what runs."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(wait)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except REDIS_ERRORS as error:
                self._progress.beat(awaited(error))
                self._stop.wait(_PAUSE)
        self._progress.end()

    def _listen(self) -> None:
        with (
            self._app.connection_for_read(transport_options=self._options) as connection,
            connection.SimpleQueue(self._queue, no_ack=True, accept=["json"]) as messages,
        ):
            while not self._stop.is_set():
                with self._progress.excused():  # a call may take its time
                    has_room = self._has_room(_WAIT)
                if not has_room:
                    continue
                message = None
                with suppress(queue.Empty):
                    message = messages.get(timeout=_WAIT)
                self._progress.beat()  # Redis has answered
                if message is not None:
                    with self._progress.excused():  # a model may take its time
                        self._take(message)

    def _take(self, message: Any) -> None:
        try:
            arguments, *_ = message.payload  # raises for what is not JSON
            self._run(*arguments)
        except Exception:  # any error concerns this message alone
            logging.getLogger(f"headrace.{self._progress.name}").exception(
                "a message failed", extra={"action": Action.STEP_FAILED}
            )


class IoRuns:
    """Begins such runs, so many of a queue at a time. `most` is by the queue's name in Celery. Thread-safe."""

    def __init__(self, most: Mapping[str, int]) -> None:
        self._most = dict(most)
        self._room = {queue: threading.BoundedSemaphore(count) for queue, count in most.items()}
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def allow(self, queue: str, most: int) -> None:
        """Run so many of a queue at a time from now on. Those that run already do not count where that is a change."""
        if self._most.get(queue) != most:
            self._most[queue], self._room[queue] = most, threading.BoundedSemaphore(most)

    def wait_for_room(self, queue: str, seconds: float) -> bool:
        """Return True once one more of a queue may run; False if that took too long. For its only consumer."""
        room = self._room[queue]
        if not room.acquire(timeout=seconds):
            return False
        room.release()
        return True

    def takes(self, queue: str) -> bool:
        """Return True if what comes from this queue is run here."""
        return queue in self._room

    def begin(self, queue: str, work: Callable[[], None]) -> bool:
        """Begin this in a thread; False while as many run as may, or this machine has no thread left."""
        room = self._room[queue]
        if not room.acquire(blocking=False):
            return False
        thread = threading.Thread(target=self._run, args=(room, work), daemon=True)
        with self._lock:  # nobody can wait for one that has not begun
            try:
                thread.start()
            except RuntimeError:
                room.release()
                return False
            self._threads.add(thread)
        return True

    def wait(self, seconds: float) -> None:
        """Wait so long for what runs, at most."""
        until = time.monotonic() + seconds
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self, room: threading.BoundedSemaphore, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # any error concerns this run alone
            logging.getLogger("headrace.beside").exception("a run failed", extra={"action": Action.STEP_FAILED})
        finally:
            room.release()
            with self._lock:
                self._threads.discard(threading.current_thread())


# Hint over Redis of the queues that have a worker, so that people know what to start, and bridges what no worker does;
# and of how many workers each has, for metrics. Both are read in core/redis.py.
#
# A key a queue, which any worker of that queue puts off the end of. Workers that were killed put off nothing, and it
# ends by itself; so does that of workers that were stopped, since another may still listen to the same queue.

BEAT_SECONDS: Final = 5.0
KEEP_SECONDS: Final = 15.0  # three beats: one may come late, and one may be lost


class Presence:
    """Shows, while its body runs, that a worker listens to these queues, and how many claims of each it runs side by
    side. Redis may come and go meanwhile.
    """

    def __init__(
        self,
        client: redis.Redis,
        names: RedisNames,
        queues: Callable[[], Mapping[str, int]],
        loop: Loop,
        *,
        worker: str,
        beat: float = BEAT_SECONDS,
        keep: float = KEEP_SECONDS,
    ) -> None:
        self._redis = client
        self._names, self._queues = names, queues
        self._progress = loop
        self._worker = worker
        self._beat, self._keep = beat, keep
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
        told: Mapping[str, int] = {}
        while True:
            try:
                queues = self._queues()
                pipeline = self._redis.pipeline(transaction=False)
                for queue in queues:
                    pipeline.set(self._names.listens(queue), b"", px=int(self._keep * 1000))
                pipeline.execute()
                if gone := dict(told.items() - queues.items()):
                    tell_gone(self._redis, self._names, self._worker, gone)
                tell_alive(self._redis, self._names, self._worker, queues, self._keep)
                told = queues
                self._progress.beat()
            except REDIS_ERRORS as error:
                self._progress.beat(awaited(error))
            if self._stop.wait(self._beat):
                break
        with suppress(*REDIS_ERRORS):  # then it ends by itself
            tell_gone(self._redis, self._names, self._worker, told)
