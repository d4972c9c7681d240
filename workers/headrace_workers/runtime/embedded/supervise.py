"""Keep children running: one that crashed, or gives no sign of life, is started again, later each time; stop all in the
reverse order.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from headrace_workers.core.log import Action, log
from headrace_workers.core.progress import STUCK_EXIT
from headrace_workers.runtime.embedded.child_processes import (
    Child,
    ChildDied,
    ChildFailed,
    ChildSpec,
    kill_group,
    last_words,
    start,
    stop,
    stop_together,
)

FIRST_DELAY = 0.5  # seconds
LONGEST_DELAY = 30.0
STEADY_SECONDS = 60.0  # a child that ran this long starts with a clean record
MAX_CRASHES = 10  # in a row, without progress: then something is wrong that another start does not mend
RARE_DELAY = 300.0  # seconds between later starts of a child that all else goes on without: somebody may have mended it
_FRUITLESS = 10  # times in a row that jobs did end between two crashes, but none with an answer: each of them kills it
_LOOK_EVERY = 1.0  # seconds: whether a child gives signs of life
_CHANCES = 3  # of a child that dies while it is set up, when it is started for the first time
_ORDINALS = {1: "second", 2: "third"}


def restart_delay(crashes: int) -> float:
    """Return the seconds before the next start, after that many crashes in a row: doubled each time, bounded."""
    return float(min(FIRST_DELAY * 2 ** max(0, crashes - 1), LONGEST_DELAY))


@dataclass(frozen=True, slots=True)
class Done:
    """Progress of the work: how many jobs have ended, and how many of them with an answer."""

    ended: int = 0
    answered: int = 0


class _Watched:
    """A child and its record."""

    def __init__(self, child: Child, now: float) -> None:
        self.child = child
        self.since = now
        self.crashes = 0
        self.start_delays = 0  # starts in a row that the machine did not allow
        self.due: float | None = None  # when it is to be started again
        self.ending = ""  # of the one before
        self.done = Done()  # at the last crash
        self.fruitless = 0
        self.silence = _Silence(child, now)


class _Silence:
    """Time for which a child has given no sign of life while we ourselves lived: a frozen machine freezes both."""

    def __init__(self, child: Child, now: float) -> None:
        self._spec, self._pid = child.spec, child.process.pid
        self._looked = now
        self._sign: float | None = None
        self.seconds = 0.0

    def too_long(self, now: float) -> bool:
        """Return True if it must be taken for dead."""
        if self._spec.sign_of_life is None or now - self._looked < _LOOK_EVERY:
            return False
        lived, self._looked = min(now - self._looked, 2 * _LOOK_EVERY), now
        sign = self._spec.sign_of_life(self._pid)
        self.seconds = self.seconds + lived if sign is not None and sign == self._sign else 0.0
        self._sign = sign
        return self.seconds > self._spec.silence_seconds


class Supervisor:
    """Children in the order of their start.

    Use it from one thread, the one that lives as long as the children should. `changed` is called with all running
    children whenever that set has changed. `obstacle` says what keeps every child from its work, a full disk say: while
    it does, no crash is one too many. `done` tells how far the work is, None where that cannot be said: a job that
    kills its worker is found out by crashes, and between them others end.
    """

    def __init__(
        self,
        log_folder: Path,
        *,
        changed: Callable[[list[Child]], None] = lambda _children: None,
        obstacle: Callable[[], str | None] = lambda: None,
        done: Callable[[], Done | None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log_folder = log_folder
        self._changed = changed
        self._obstacle = obstacle
        self._done = done
        self._monotonic = monotonic
        self._watched: list[_Watched] = []

    @property
    def children(self) -> list[Child]:
        """Return the children, in the order of their first start."""
        return [watched.child for watched in self._watched]

    def start(self, spec: ChildSpec) -> Child:
        """Start a child, wait until it is ready, and watch it from now on. One that dies while it is set up has more
        chances; ChildFailed when they are used up, or when it did not even become ready."""
        for chance in range(1, _CHANCES + 1):
            try:
                child = start(spec, self._log_folder)
                break
            except ChildDied as error:
                if chance == _CHANCES:
                    raise
                self._tell(spec, f"{error}; it is started again, for the {_ORDINALS[chance]} time")
        works = [place for place, watched in enumerate(self._watched, 1) if watched.child.spec.works]
        place = works[-1] if spec.works and works else len(self._watched)  # workers stop together
        self._watched.insert(place, _Watched(child, self._monotonic()))
        self._changed(self.children)
        return child

    def end(self, name: str) -> None:
        """Stop the child of this name, if there is one, and watch it no more."""
        for watched in [watched for watched in self._watched if watched.child.spec.name == name]:
            self._watched.remove(watched)
            stop(watched.child)
        self._changed(self.children)

    def check(self) -> None:
        """Look at each child once: note crashes, and start children that are due.

        ChildFailed when one has crashed ten times in a row, and no job has ended meanwhile. One that all else goes on
        without is then started rarely.
        """
        now = self._monotonic()
        for watched in self._watched:
            child = watched.child
            if watched.due is None and child.running and watched.silence.too_long(now):
                kill_group(child.process.pid)  # it is stopped, and so deaf to anything gentler
                child.process.wait()
                watched.ending = f"gave no sign of life for {watched.silence.seconds:.0f} s, and was killed"
            elif watched.due is None and not child.running:
                watched.ending = child.ending
            else:
                continue
            self._note_crash(watched, now, f"{child.spec.name} {watched.ending}; see {child.log}")
        for watched in self._watched:
            if watched.due is not None and now >= watched.due:
                self._restart(watched)

    def stop_all(self) -> None:
        """Stop the children, the last started first, each within its grace period.

        Workers stop together: they need everything that was started before them, but not each other, and each may have
        a long answer to finish.
        """
        while self._watched:
            children = [self._watched.pop().child]
            while children[0].spec.works and self._watched and self._watched[-1].child.spec.works:
                children.append(self._watched.pop().child)
            stop_together(children)
            self._changed(self.children)

    def _note_crash(self, watched: _Watched, now: float, what: str) -> None:
        """Note a crash. `what` says who crashed how, and which log to look into."""
        spec = watched.child.spec
        # A large model may take long to fail, which is no steadiness.
        clean = now - watched.since >= STEADY_SECONDS and (not spec.optional or spec.was_ready())
        clean |= self._progressed(watched)
        watched.crashes = 1 if clean else watched.crashes + 1
        if watched.child.process.returncode == STUCK_EXIT:  # it waited for something, and may not have to next time
            watched.crashes = min(watched.crashes, MAX_CRASHES - 1)
        if obstacle := self._obstacle():
            watched.crashes = min(watched.crashes, MAX_CRASHES - 1)
            what = f"{what}; {obstacle}"
        delay = restart_delay(watched.crashes)
        again = f"it is started again in {delay:g} s, after crash {watched.crashes} of at most {MAX_CRASHES}"
        if watched.crashes >= MAX_CRASHES:
            count = f"that was crash {watched.crashes} in a row without progress"
            if not spec.optional:
                advice = "there is no other try: mend what the log shows, and start again"
                raise ChildFailed(f"{what}; {count}, and {advice}")
            delay = RARE_DELAY
            what += last_words(watched.child.log)
            again = f"{count}, and all else goes on without it. {spec.optional}. It is started again every {delay:g} s"
        watched.due = now + delay
        self._tell(spec, f"{what}; {again}")

    def _progressed(self, watched: _Watched) -> bool:
        """Return True if work was done since this child's last crash. A few jobs in a row may kill it, each until it is
        known for that; where every job does, or none had begun, the fault is not theirs.
        """
        spec, before = watched.child.spec, watched.done
        done = self._done() if spec.works and spec.was_ready() else None
        if done is None:
            return False
        watched.done = done
        if done.answered != before.answered:
            watched.fruitless = 0
            return True
        if done.ended == before.ended:
            return False
        watched.fruitless += 1
        return watched.fruitless <= _FRUITLESS

    def _tell(self, spec: ChildSpec, what: str) -> None:
        log("stack", logging.WARNING, Action.CHILD_DIED, what, child=spec.name)

    def _delay_start(self, watched: _Watched, error: OSError) -> None:
        """Delay a start that the machine did not allow. It is no crash of the child: it is tried for as long as it
        takes.
        """
        watched.start_delays += 1
        delay = restart_delay(watched.start_delays)
        watched.due = self._monotonic() + delay
        where = f"{error.filename}: " if error.filename else ""
        what = f"{watched.child.spec.name} cannot be started: {where}{error.strerror or error}"
        self._tell(watched.child.spec, f"{what}; it is tried again in {delay:g} s")

    def _restart(self, watched: _Watched) -> None:
        stop(watched.child)  # the rest of its group
        watched.since = self._monotonic()
        try:
            before = watched.child
            child = start(before.spec, self._log_folder)
            watched.child = replace(child, restarts=before.restarts + 1, last_end=watched.ending)
            watched.due, watched.start_delays, watched.silence = None, 0, _Silence(child, self._monotonic())
        except OSError as error:
            self._delay_start(watched, error)
        except ChildFailed as error:
            watched.due = None
            watched.since = self._monotonic()
            self._note_crash(watched, watched.since, str(error))
        self._changed(self.children)
