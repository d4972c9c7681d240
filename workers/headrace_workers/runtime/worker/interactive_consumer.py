"""A model's spare pair of hands: interactive work is begun at once, and not only when a batch has ended."""

import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kombu.entity import Queue

from headrace_workers.core.log import Action
from headrace_workers.core.outage import REDIS_ERRORS, awaited
from headrace_workers.core.progress import Loop
from headrace_workers.runtime.wire.celery_app import INTERACTIVE_ONLY

_PAUSE = 1.0  # seconds before listening again when Redis does not answer
_WAIT = 1.0  # and to the next look whether to stop


class InteractiveConsumer:
    """Consumer that takes claims of the interactive lane from one queue, in addition to Celery, and runs them in a
    thread of its own.
    """

    def __init__(self, app: Any, queue: Queue, run: Callable[..., None], loop: Loop) -> None:
        self._app = app
        self._queue = queue
        self._run = run
        self._progress = loop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="express", daemon=True)

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
            self._app.connection_for_read(transport_options=INTERACTIVE_ONLY) as connection,
            connection.SimpleQueue(self._queue, no_ack=True, accept=["json"]) as messages,
        ):
            while not self._stop.is_set():
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
            logging.getLogger("headrace.express").exception("a message failed", extra={"action": Action.STEP_FAILED})
