"""A loop that goes on: what does not answer is tried again, a little later each time."""

import logging
import threading
from collections.abc import Callable

import redis
from kafka.errors import KafkaError

from headrace_schemas.errors import Unavailable
from headrace_workers.log import Action, log

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0

# What a service that is away looks like, in each library's words.
AWAY = (Unavailable, KafkaError, redis.RedisError, ConnectionError, TimeoutError)


def keep_going(name: str, once: Callable[[], None], stop: threading.Event) -> None:
    """Call `once` until `stop` is set. It waits by itself when there is nothing to do."""
    pause = _FIRST_PAUSE
    while not stop.is_set():
        try:
            once()
            pause = _FIRST_PAUSE
        except AWAY as error:
            log(name, logging.WARNING, Action.UNAVAILABLE, f"{error or type(error).__name__}; trying again")
            stop.wait(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)
