"""Hints over Redis that there may be work to do. They save polling; nothing depends on their arrival."""

import logging
import time
from enum import StrEnum
from typing import Final

import redis

from headrace_workers.core.log import Action, log


class Hint(StrEnum):
    """Hint of possible work: steps to assign or room for them, or events to publish. ENDS comes with EVENTS, unless the
    process that took the work on will soon notify of more of them, and to publish all at once is enough. TRICKLE comes
    in place of WORK and ENDS from a few steps of the batch lane, which can wait for others. BATCHES: a batch was made,
    or is to end. CHANGES: answers in the cache, or documents, changed.
    """

    WORK = "work"
    TRICKLE = "trickle"
    EVENTS = "events"
    ENDS = "ends"
    BATCHES = "batches"
    CHANGES = "changes"


_SILENT_SECONDS: Final = 5.0  # without hints, once Redis has not answered: listeners look by themselves meanwhile


class Notifier:
    """Sender of hints. Thread-safe; silent when Redis does not answer: let `client` give up soon."""

    def __init__(self, client: redis.Redis, channel: str) -> None:
        self._redis = client
        self._channel = channel
        self._silent_until = float("-inf")

    def notify(self, *hints: Hint) -> bool:
        """Send these hints to all listeners; return True if Redis took them."""
        if time.monotonic() < self._silent_until:
            return False
        try:
            self._redis.publish(self._channel, " ".join(hints))
        except redis.RedisError as error:
            if isinstance(error, redis.TimeoutError):
                self._silent_until = time.monotonic() + _SILENT_SECONDS
            log("wake", logging.DEBUG, Action.UNAVAILABLE, "Redis did not take a hint", reason=type(error).__name__)
            return False
        return True
