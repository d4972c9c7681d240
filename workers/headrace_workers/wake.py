"""A hint, over Redis, that there may be something to do. It saves polling; nothing depends on its arrival."""

import logging
import threading
from collections.abc import Mapping
from enum import StrEnum

import redis

from headrace_workers.log import Action, log

CHANNEL = "headrace.wake"
_PAUSE = 1.0  # seconds before listening again when Redis does not answer


class Hint(StrEnum):
    """What there may be: steps to hand out or room for them, or events to publish."""

    WORK = "work"
    EVENTS = "events"


class Bell:
    """Rings. Thread-safe; silent when Redis does not answer."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def ring(self, *hints: Hint) -> None:
        """Tell every bridge what changed."""
        try:
            self._redis.publish(CHANNEL, " ".join(hints))
        except redis.RedisError as error:
            log("wake", logging.DEBUG, Action.UNAVAILABLE, "Redis did not take a hint", reason=type(error).__name__)


class Ears:
    """Listens in a thread, and sets the event of each hint that the bell gives, or `touch`."""

    def __init__(self, client: redis.Redis, events: Mapping[Hint, threading.Event]) -> None:
        self._redis = client
        self._events = events
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="wake", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join(timeout=3)

    def touch(self, *hints: Hint) -> None:
        """As if the bell had rung, in this process only."""
        for hint in hints:
            self._events[hint].set()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    channel.subscribe(CHANNEL)
                    while not self._stop.is_set():
                        message = channel.get_message(timeout=1.0)
                        if message is not None:
                            said = message["data"].decode("ascii", "replace").split()
                            self.touch(*(hint for hint in Hint if hint in said))
            except (redis.RedisError, OSError):
                self._stop.wait(_PAUSE)
