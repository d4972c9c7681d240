"""Keep children running: a crashed one is started again, later each time; stop all in the reverse order."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from headrace_workers.embedded.processes import Child, ChildFailed, ChildSpec, start, stop
from headrace_workers.log import Action, log

FIRST_DELAY = 0.5  # seconds
LONGEST_DELAY = 30.0
STEADY_SECONDS = 60.0  # a child that ran this long starts with a clean record
MAX_CRASHES = 10  # in a row: then something is wrong that another start does not mend


def restart_delay(crashes: int) -> float:
    """Seconds before the next start, after that many crashes in a row: doubled each time, bounded."""
    return float(min(FIRST_DELAY * 2 ** max(0, crashes - 1), LONGEST_DELAY))


class _Watched:
    """One child and its record."""

    def __init__(self, child: Child, now: float) -> None:
        self.child = child
        self.since = now
        self.crashes = 0
        self.due: float | None = None  # when it is to be started again


class Supervisor:
    """Children in the order of their start.

    Use it from one thread, the one that lives as long as the children should. `changed` is called with all running
    children whenever that set has changed.
    """

    def __init__(
        self,
        log_folder: Path,
        *,
        changed: Callable[[list[Child]], None] = lambda _children: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log_folder = log_folder
        self._changed = changed
        self._monotonic = monotonic
        self._watched: list[_Watched] = []

    @property
    def children(self) -> list[Child]:
        """The children, in the order of their first start."""
        return [watched.child for watched in self._watched]

    def start(self, spec: ChildSpec) -> Child:
        """Start a child, wait until it is ready, and watch it from now on."""
        child = start(spec, self._log_folder)
        self._watched.append(_Watched(child, self._monotonic()))
        self._changed(self.children)
        return child

    def check(self) -> None:
        """Look at each child once: note who has crashed, start again who is due.

        ChildFailed when one has crashed ten times in a row.
        """
        now = self._monotonic()
        for watched in self._watched:
            if watched.due is None and not watched.child.running:
                child = watched.child
                self._note_crash(watched, now, f"{child.spec.name} {child.ending}; see {child.log}")
            if watched.due is not None and now >= watched.due:
                self._restart(watched)

    def stop_all(self) -> None:
        """Stop the children, the last started first, each within its grace period."""
        while self._watched:
            stop(self._watched.pop().child)
            self._changed(self.children)

    def _note_crash(self, watched: _Watched, now: float, what: str) -> None:
        """`what` says who crashed how, and which log to look into."""
        watched.crashes = 1 if now - watched.since >= STEADY_SECONDS else watched.crashes + 1
        if watched.crashes >= MAX_CRASHES:
            advice = "there is no other try: mend what the log shows, and start again"
            raise ChildFailed(f"{what}; that was crash {MAX_CRASHES} in a row, and {advice}")
        delay = restart_delay(watched.crashes)
        watched.due = now + delay
        log("stack", logging.WARNING, Action.CHILD_DIED,
            f"{what}; it is started again in {delay:g} s, after crash {watched.crashes} of at most {MAX_CRASHES}",
            child=watched.child.spec.name)  # fmt: skip

    def _restart(self, watched: _Watched) -> None:
        stop(watched.child)  # the rest of its group
        watched.since = self._monotonic()
        try:
            watched.child = start(watched.child.spec, self._log_folder)
            watched.due = None
        except ChildFailed as error:
            watched.due = None
            watched.since = self._monotonic()
            self._note_crash(watched, watched.since, str(error))
        self._changed(self.children)
