"""Hints over Redis that there may be work to do. They save polling; nothing depends on them."""

import logging
import threading
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Protocol

import redis

from headrace_workers.core.log import Action, log
from headrace_workers.core.outage import REDIS_ERRORS, awaited
from headrace_workers.core.progress import Loop


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


_PAUSE = 1.0  # seconds before listening again when Redis does not answer
_WAIT = 1.0  # and to the next look whether to stop
ASK_AFTER = 5.0  # of silence: whether anyone is there
ANSWER = 5.0  # seconds to the answer, else the connection is half-open


class HintReceiver(Protocol):
    """Receiver that a hint sets, such as a `threading.Event`."""

    def set(self) -> object:
        """Receive a hint, on the listener's thread."""


class Broadcast:
    """Receiver that sets several others."""

    def __init__(self, *receivers: HintReceiver) -> None:
        self._receivers = list(receivers)

    def add(self, receiver: HintReceiver) -> None:
        """Set this, too, from now on."""
        self._receivers.append(receiver)

    def set(self) -> None:
        """Set all."""
        for receiver in self._receivers:
            receiver.set()


class HintListener:
    """Listener on a thread that sets the receivers of each hint that arrives, or that `touch` gives."""

    def __init__(self, client: redis.Redis, channel: str, receivers: Mapping[Hint, HintReceiver], loop: Loop) -> None:
        self._redis = client
        self._channel = channel
        self._receivers_of = receivers
        self._loop = loop
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
        """Set the receivers of a hint in this process only, as if it had arrived."""
        for hint in hints:
            if (receiver := self._receivers_of.get(hint)) is not None:
                receiver.set()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
                    subscription.subscribe(self._channel)
                    self._receive(subscription)
            except REDIS_ERRORS as error:
                self._loop.beat(awaited(error))
                self._stop.wait(_PAUSE)
        self._loop.end()

    def _receive(self, subscription: redis.client.PubSub) -> None:
        heard = pinged = time.monotonic()
        while not self._stop.is_set():
            message = subscription.get_message(timeout=_WAIT)
            now = time.monotonic()
            if message is not None:
                heard = now
                if message["type"] == "message":
                    names = message["data"].decode("ascii", "replace").split()
                    self.touch(*(hint for hint in Hint if hint in names))
            elif pinged > heard:
                if now - pinged > ANSWER:
                    raise redis.TimeoutError("a subscription is silent")
            elif now - heard > ASK_AFTER:
                subscription.ping()
                pinged = now
            self._loop.beat()
