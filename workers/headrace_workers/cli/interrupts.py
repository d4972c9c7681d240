"""Ctrl-C and SIGTERM, kept until Python can raise them.

Python raises an interrupt wherever the main thread is at that moment. Inside a `__del__`, or a function that a C
library calls, nothing can be raised: Python prints "Exception ignored", and the command goes on.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, Final

TERMINATED: Final = 128 + signal.SIGTERM  # the exit code
_SOON: Final = 0.05  # seconds


@contextmanager
def heard() -> Iterator[None]:
    """Raise an interrupt again a moment later if it came, in this block, where nothing can be raised."""
    before = sys.unraisablehook

    def again(lost: Any) -> None:
        number = _number(lost.exc_value)
        if number is None:
            before(lost)
            return
        has_returned = Event()  # what is raised in here is lost, too
        Thread(target=_send_again, args=(number, has_returned), daemon=True).start()
        has_returned.set()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before


def _send_again(number: int, after: Event) -> None:
    after.wait()
    time.sleep(_SOON)
    os.kill(os.getpid(), number)


def _number(error: BaseException | None) -> int | None:
    """Return the signal that raised this exception."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    return signal.SIGTERM if isinstance(error, SystemExit) and error.code == TERMINATED else None
