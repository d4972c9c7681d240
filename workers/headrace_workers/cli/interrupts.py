"""What ends a command, Ctrl-C or SIGTERM, is not lost.

Python raises it wherever the main thread is at that moment. Where that is a `__del__`, or a function that a library of
C calls, nothing can be raised: it is printed as "Exception ignored", and the command goes on.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any, Final

TERMINATED: Final = 128 + signal.SIGTERM  # the exit code
_SOON: Final = 0.05  # seconds


@contextmanager
def heard() -> Iterator[None]:
    """In this block, one that came where nothing can be raised comes again a moment later."""
    before = sys.unraisablehook

    def again(lost: Any) -> None:
        number = _number(lost.exc_value)
        if number is None:
            before(lost)
            return
        timer = Timer(_SOON, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before


def _number(error: BaseException | None) -> int | None:
    """The signal that this was raised for."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    return signal.SIGTERM if isinstance(error, SystemExit) and error.code == TERMINATED else None
