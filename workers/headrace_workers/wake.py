"""A hint, over Redis, that there may be something to do. It saves polling; nothing depends on its arrival."""

import logging
import threading

import redis

from headrace_workers.log import Action, log

CHANNEL = "headrace.wake"
_PAUSE = 1.0  # seconds before listening again when Redis does not answer


class Bell:
    """Rings. Thread-safe; silent when Redis does not answer."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def ring(self) -> None:
        """Tell every bridge that something changed."""
        try:
            self._redis.publish(CHANNEL, b"")
        except redis.RedisError as error:
            log("wake", logging.DEBUG, Action.UNAVAILABLE, "Redis did not take a hint", reason=type(error).__name__)


class Ears:
    """Listens in a thread, and sets each of its events whenever the bell rings or `touch` is called."""

    def __init__(self, client: redis.Redis, events: list[threading.Event]) -> None:
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

    def touch(self) -> None:
        """As if the bell had rung, in this process only."""
        for event in self._events:
            event.set()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    channel.subscribe(CHANNEL)
                    while not self._stop.is_set():
                        if channel.get_message(timeout=1.0) is not None:
                            self.touch()
            except (redis.RedisError, OSError):
                self._stop.wait(_PAUSE)
