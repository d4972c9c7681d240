"""A loop that goes on: what does not answer is tried again, a little later each time."""

import threading
from collections.abc import Callable

from headrace_workers.away import AWAY, awaited
from headrace_workers.progress import Awaited, Loop

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


def keep_going(once: Callable[[], Awaited | None], stop: threading.Event, loop: Loop) -> None:
    """Call `once` until `stop` is set. It waits by itself when there is nothing to do, bounded, and returns what it
    lacks, if people should know that; a service that is away it may raise.
    """
    pause = _FIRST_PAUSE
    while not stop.is_set():
        try:
            loop.beat(once())
            pause = _FIRST_PAUSE
        except AWAY as error:
            loop.beat(awaited(error))
            stop.wait(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)
    loop.end()
