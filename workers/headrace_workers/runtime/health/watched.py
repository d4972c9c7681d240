"""Watch of a process over itself: it writes down the progress of its loops, and ends itself when one of them is stuck.

One that lets no other thread compute, such as a pattern that backtracks for ever, is ended by the kernel.
"""

import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from headrace_workers.core.config_watch import standings
from headrace_workers.core.log import Action, log
from headrace_workers.core.machine import available_cores
from headrace_workers.core.progress import STUCK_EXIT, Progress, stack_of
from headrace_workers.runtime.health.reports import OwnFile, deployment_of, path_of, words_of_silence
from headrace_workers.runtime.settings import Settings

_TICK = 1.0  # seconds


@contextmanager
def watched(
    kind: str, settings: Settings, *, end: Callable[[int], object] = os._exit, tick: float = _TICK
) -> Iterator[Progress]:
    """Write down and judge the progress of this process while the body runs."""
    progress, stop = Progress(), threading.Event()
    file = OwnFile.create(path_of(deployment_of(settings), f"{kind}-{os.getpid()}"))
    kernel = _Kernel(settings.stuck + settings.lease)
    watch = _Watch(kind, progress, file, settings.stuck, end, kernel)
    thread = threading.Thread(target=watch.run, args=(stop, tick), name="health", daemon=True)
    watch.look(0.0)
    thread.start()
    try:
        yield progress
    finally:
        stop.set()
        thread.join()
        kernel.forget()
        file.remove()


class _Watch:
    """Watch that counts the time that the process has lived, and looks at its loops."""

    def __init__(
        self,
        kind: str,
        progress: Progress,
        file: OwnFile,
        stuck: float,
        end: Callable[[int], object],
        kernel: "_Kernel",
    ) -> None:
        self._kind = kind
        self._progress = progress
        self._file = file
        self._stuck = stuck
        self._end = end
        self._kernel = kernel

    def run(self, stop: threading.Event, tick: float) -> None:
        """Look each tick. Count at most two ticks at a time: for the rest, the process was stopped."""
        before = time.monotonic()
        while not stop.wait(tick):
            now = time.monotonic()
            self.look(min(now - before, 2 * tick))
            before = now

    def look(self, lived: float) -> None:
        """Write down how the loops stand after so many more seconds; end the process when one is stuck."""
        self._kernel.postpone()
        self._progress.lived += lived
        loops = self._progress.loops
        states = [loop.state() for loop in loops]
        self._file.write(
            {"kind": self._kind, "pid": os.getpid(), "stuck": self._stuck, "at": time.monotonic(),
             "loops": [asdict(state) for state in states], "policies": [asdict(standing) for standing in standings()]}
        )  # fmt: skip
        for loop, state in zip(loops, states, strict=True):
            if state.silent > self._stuck:
                log("health", logging.ERROR, Action.STUCK,
                    f"{words_of_silence(state)}: this process ends, to be started again",
                    loop=state.name, stack=stack_of(loop.thread))  # fmt: skip
                logging.shutdown()
                self._end(STUCK_EXIT)


class _Kernel:
    """Limit by the kernel that ends the process when it computes for so many seconds and the watch cannot look: one of
    its threads holds the interpreter then, and no line of Python would end it.

    CPU time is counted, so that neither a stopped process nor one that gets no turn on a busy machine is ended; as many
    seconds for each core, since other threads may compute without the interpreter. `headrace up` kills after as many
    seconds without a sign of life: it does so first. The stack of each thread is written to standard error.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds * available_cores()
        faulthandler.register(signal.SIGPROF, file=2, chain=True)  # a stack each, and then what the signal does

    def postpone(self) -> None:
        """Restart the limit, since the watch has looked."""
        signal.setitimer(signal.ITIMER_PROF, self._seconds)

    def forget(self) -> None:
        """Remove the limit, since the watch ends."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.unregister(signal.SIGPROF)
