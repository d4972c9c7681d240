"""The carrier: it moves records from the buffer to the client, and to the next client when one fails."""

import logging
from collections.abc import Callable
from threading import Thread
from time import monotonic

from headrace_producers.link import Link
from headrace_producers.pending import PendingRecords
from headrace_producers.words import words
from headrace_schemas import Topic

_log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.1  # seconds before a client that failed is replaced; doubled with each that confirms nothing
_LONGEST_PAUSE = 2.0
_TOPIC_PAUSE = 1.0  # seconds until a topic that could not be reached is asked for again


class Carrier(Thread):
    """The thread that hands records to a client, in order. It ends when `pending` has ended.

    No caller ever waits for the client itself: it may hang, or fail, and is then replaced.
    """

    def __init__(self, pending: PendingRecords, first: Link, connect: Callable[[], Link]) -> None:
        super().__init__(name="headrace-carrier", daemon=True)
        self._pending = pending
        self._connect = connect
        self._link: Link | None = first
        self._pause = 0.0
        self._held: dict[Topic, float] = {}

    def run(self) -> None:
        """Carry until all has ended."""
        while not self._pending.ended:
            try:
                self._once()
            except Exception as error:  # the promise to the callers must outlive any surprise of the library
                _log.warning("the Kafka client is replaced: %s", words(error))
                self._pending.note(words(error))
                self._pending.broke()
        self._release()

    def _once(self) -> None:
        if self._pending.broken:
            self._replace()
        now = monotonic()
        self._held = {topic: until for topic, until in self._held.items() if until > now}
        topic = self._pending.next_topic(self._held, min(self._held.values()) - now if self._held else None)
        if topic is None:
            return
        if self._link is None:
            self._link = self._connect()
        if not self._link.reaches(topic):
            self._held[topic] = monotonic() + _TOPIC_PAUSE  # the others need not wait for it
            return
        for number, record in self._pending.take(topic):
            self._link.send(number, record)

    def _replace(self) -> None:
        """Let go of the client, and of what it had: the next one is connected when there is something to carry."""
        link = self._link
        self._release()
        self._pending.rewind()
        if link is not None and link.refused:
            return
        self._pause = _FIRST_PAUSE if link is not None and link.delivers else min(2 * self._pause, _LONGEST_PAUSE)
        self._pause = max(self._pause, _FIRST_PAUSE)
        self._pending.pause(self._pause)

    def _release(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
