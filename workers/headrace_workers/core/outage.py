"""Recognition of outages in each library's errors, and a loop that waits until the service is back."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

import redis
from kafka.errors import KafkaError
from kombu.exceptions import OperationalError

from headrace_producers.words import words
from headrace_schemas.errors import Unavailable
from headrace_workers.core.progress import Awaited, Loop

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # s between two tries during an outage

REDIS_ERRORS = (redis.RedisError, OperationalError, ConnectionError, TimeoutError)
OUTAGE_ERRORS = (Unavailable, KafkaError, *REDIS_ERRORS)


class RedisUnavailable(Unavailable):
    """Redis did not answer."""


class KafkaUnavailable(Unavailable):
    """Kafka did not answer, or answered with an error."""


def awaited(error: BaseException) -> Awaited:
    """Return the service that an error of `OUTAGE_ERRORS` tells of, and what it said."""
    if isinstance(error, KafkaError | KafkaUnavailable):
        return Awaited("Kafka", words(error))
    if isinstance(error, RedisUnavailable | redis.RedisError | OperationalError):
        return Awaited("Redis", words(error))
    if isinstance(error, Unavailable):
        return Awaited("the ledger", words(error))
    return Awaited("a service", words(error))


def keep_going(once: Callable[[], Awaited | None], stop: threading.Event, loop: Loop) -> None:
    """Call `once` until `stop` is set. `once` waits by itself when there is nothing to do, bounded, and returns what it
    lacks, if people should know that; it may raise the error of an outage.
    """
    pause = _FIRST_PAUSE
    while not stop.is_set():
        try:
            loop.beat(once())
            pause = _FIRST_PAUSE
        except OUTAGE_ERRORS as error:
            loop.beat(awaited(error))
            stop.wait(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)
    loop.end()


class KeepsGoing(ABC):
    """Loop that looks again and again, on a thread of its own."""

    def __init__(self, loop: Loop) -> None:
        self._progress = loop
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=keep_going, args=(self._look, self._stop, loop), name=loop.name, daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float | None = None) -> None:
        """Look no more, and wait until that is so, for so many seconds at most."""
        self._stop.set()
        self._thread.join(seconds)

    @abstractmethod
    def _look(self) -> Awaited | None:
        """Look once, and rest after it: see `keep_going`."""
