"""Whether a process goes on: it writes down the progress of its loops, and ends itself when one of them is stuck.

One that lets no other thread compute, such as a pattern that backtracks for ever, is ended by the kernel.

A file a process, beside no data, locked for as long as the process lives: so nobody takes a dead one's word.
"""

import faulthandler
import fcntl
import hashlib
import json
import logging
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.engines.hardware import available_cores
from headrace_workers.log import Action, log
from headrace_workers.moderation.followed import Standing, standings
from headrace_workers.progress import STUCK_EXIT, Awaited, LoopState, Progress, stack_of
from headrace_workers.settings import Settings

KINDS = ("bridge", "worker", "gateway")

_TICK = 1.0  # seconds
_STANDS_STILL = 30.0  # seconds without a word from a whole process


@contextmanager
def watched(
    kind: str, settings: Settings, *, end: Callable[[int], object] = os._exit, tick: float = _TICK
) -> Iterator[Progress]:
    """The progress of this process, which is written down and judged while the body runs."""
    progress, stop = Progress(), threading.Event()
    file = _File.create(_place(settings, f"{kind}-{os.getpid()}"))
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
    """Counts the time that the process has lived, and looks at its loops."""

    def __init__(
        self,
        kind: str,
        progress: Progress,
        file: "_File",
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
        """Look each tick. What was more than two of them, the process did not live: it was stopped meanwhile."""
        before = time.monotonic()
        while not stop.wait(tick):
            now = time.monotonic()
            self.look(min(now - before, 2 * tick))
            before = now

    def look(self, lived: float) -> None:
        """Write down how the loops stand after so many more seconds; end the process when one is stuck."""
        self._kernel.put_off()
        self._progress.lived += lived
        loops = self._progress.loops
        states = [loop.state() for loop in loops]
        self._file.write(
            {"kind": self._kind, "pid": os.getpid(), "stuck": self._stuck, "at": time.monotonic(),
             "loops": [asdict(state) for state in states], "policies": [asdict(each) for each in standings()]}
        )  # fmt: skip
        for loop, state in zip(loops, states, strict=True):
            if state.silent > self._stuck:
                log("health", logging.ERROR, Action.STUCK,
                    f"{words_of_silence(state)}: this process ends, to be started again\n{stack_of(loop.thread)}",
                    loop=state.name)  # fmt: skip
                logging.shutdown()
                self._end(STUCK_EXIT)


class _Kernel:
    """Ends the process when it computes for so many seconds and nothing of it can look: one of its threads holds the
    interpreter then, and no line of Python would come to end it.

    CPU time is counted, so that neither a stopped process nor one that gets no turn on a busy machine is ended; as many
    seconds for each core, since other threads may compute without the interpreter. `headrace up` kills after as many
    seconds without a sign of life: it does so first. The stack of each thread is written to standard error.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds * available_cores()
        faulthandler.register(signal.SIGPROF, file=2, chain=True)  # a stack each, and then what the signal does

    def put_off(self) -> None:
        """Somebody looks."""
        signal.setitimer(signal.ITIMER_PROF, self._seconds)

    def forget(self) -> None:
        """Nobody will look any more."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.unregister(signal.SIGPROF)


def words_of_silence(state: LoopState) -> str:
    """What is known of a loop that does not go on."""
    awaited = f"; it waited for {state.awaited.what} ({state.awaited.why})" if state.awaited else ""
    return f"the loop {state.name} has not gone on for {state.silent:.0f} s{awaited}"


# -- from outside


@dataclass(frozen=True, slots=True)
class Report:
    """What a process has written down, and when (`at`, monotonic). `stuck`: the silence of a loop that ends it."""

    kind: str
    pid: int
    at: float
    stuck: float
    loops: tuple[LoopState, ...]
    policies: tuple[Standing, ...] = ()

    @property
    def age(self) -> float:
        """Seconds since it was written."""
        return max(0.0, time.monotonic() - self.at)

    @property
    def troubles(self) -> list[str]:
        """What is not as it should be; empty when it is healthy. A loop counts half-way to its process's end."""
        if self.age > min(_STANDS_STILL, self.stuck / 2):
            return [f"it has given no sign of life for {self.age:.0f} s: it is stopped, or starved"]
        return [words_of_silence(loop) for loop in self.loops if loop.silent > self.stuck / 2]

    @property
    def waits(self) -> list[str]:
        """What its loops wait for, a service a line."""
        found: dict[str, list[LoopState]] = {}
        for loop in self.loops:
            if loop.awaited:
                found.setdefault(loop.awaited.what, []).append(loop)
        return [
            f"{', '.join(loop.name for loop in loops)} {'waits' if len(loops) == 1 else 'wait'} for {what}, for "
            f"{max(loop.waits for loop in loops):.0f} s: {loops[0].awaited.why if loops[0].awaited else ''}"
            for what, loops in found.items()
        ]

    @property
    def doing(self) -> list[str]:
        """What its loops are in the middle of, a line each."""
        return [loop.doing for loop in self.loops if loop.doing]

    @property
    def refused(self) -> list[str]:
        """What is wrong with policy files, and what holds instead, each once."""
        found = {
            each.refused: f"the moderation policy of before, {each.version}, holds: {each.refused}"
            for each in self.policies
            if each.refused is not None and not each.outdated
        }
        return [*found.values()]

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "kind": self.kind,
            "pid": self.pid,
            "healthy": not self.troubles,
            "troubles": self.troubles,
            "waits": self.waits,
            "doing": self.doing,
            "policies": [asdict(each) for each in self.policies],
        }


def reports(settings: Settings, kind: str) -> list[Report]:
    """Every process of this kind and deployment that lives on this machine and belongs to this user."""
    pattern = _place(settings, f"{kind}-*")
    found = (_read(path) for path in sorted(pattern.parent.glob(pattern.name)))
    return [report for report in found if report is not None]


def last_sign(settings: Settings, kind: str, pid: int) -> float | None:
    """When a process wrote down last how it stands (monotonic seconds); None when nothing is known of it."""
    report = _read(_place(settings, f"{kind}-{pid}"))
    return report.at if report else None


def check(settings: Settings, kind: str) -> list[str]:
    """A line for each process, when all are well, else raise Unavailable with what is not."""
    return judge(living(settings, kind))


def living(settings: Settings, kind: str) -> list[Report]:
    """The processes of a kind, at least one; Unavailable when there is none, ConfigurationError for no kind at all."""
    if kind not in KINDS:
        raise ConfigurationError(f"{kind!r} is no kind of process: it may be {' or '.join(KINDS)}")
    found = reports(settings, kind)
    if not found:
        raise Unavailable(f"no {kind} of this deployment runs here")
    return found


def judge(found: Sequence[Report]) -> list[str]:
    """A line for each process, when all are well, else raise Unavailable with what is not."""
    troubles = [f"{report.kind} {report.pid}: {trouble}" for report in found for trouble in report.troubles]
    if troubles:
        raise Unavailable("; ".join(troubles))
    return [
        f"{report.kind} {report.pid}: " + "; ".join(["healthy", *report.waits, *report.doing, *report.refused])
        for report in found
    ]


def _place(settings: Settings, name: str) -> Path:
    """One deployment's files do not count for another on the same machine: addresses and home tell them apart."""
    addresses = [re.sub(r"//[^/]*@", "//", url) for url in (settings.redis, settings.ledger)]
    about = json.dumps([str(settings.home.absolute()), settings.kafka.prefix, *addresses])
    deployment = hashlib.sha256(about.encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}-{deployment}-{name}.json"


class _File:
    """A process's own file. One that cannot be written is told once: the work goes on."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: Path) -> "_File":
        """Create and lock it; it has its name only then, since whoever finds it unlocked takes it for a dead one's."""
        draft = path.with_suffix(".new")
        try:
            draft.unlink(missing_ok=True)  # of a process before us with the same id
            descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.replace(path)
        except OSError as error:
            cls._complain(path, error)
            return cls(path, None)
        return cls(path, descriptor)

    def write(self, content: dict[str, Any]) -> None:
        """Replace what it says."""
        if self._descriptor is None:
            return
        text = json.dumps(content).encode()
        try:
            os.pwrite(self._descriptor, text, 0)
            os.ftruncate(self._descriptor, len(text))
        except OSError as error:
            self._complain(self._path, error)
            self.remove()

    def remove(self) -> None:
        """The process ends as it should."""
        if self._descriptor is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    @staticmethod
    def _complain(path: Path, error: OSError) -> None:
        log("health", logging.WARNING, Action.UNAVAILABLE,
            f"{path} cannot be written ({error.strerror}): `headrace health` will not know this process")  # fmt: skip


def _read(path: Path) -> Report | None:
    """What a living process says; None of a dead one, whose file goes away."""
    for _ in range(5):  # it may be read while it is written
        try:
            with path.open("rb") as file:
                if not _locked(file.fileno()):
                    path.unlink(missing_ok=True)
                    return None
                content = json.loads(file.read())
            return Report(
                kind=content["kind"],
                pid=content["pid"],
                at=content["at"],
                stuck=content["stuck"],
                loops=tuple(_state(loop) for loop in content["loops"]),
                policies=tuple(Standing(**each) for each in content["policies"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(0.02)
    return None


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _state(content: dict[str, Any]) -> LoopState:
    awaited = content["awaited"]
    return LoopState(**{**content, "awaited": Awaited(**awaited) if awaited else None})
