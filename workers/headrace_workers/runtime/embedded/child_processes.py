"""Child processes: started with a log of their own, tied to their parent's life, stopped for certain."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace_schemas.errors import Category, HeadraceError, Unavailable
from headrace_workers.core.environment import environment
from headrace_workers.core.private_files import opened_privately, private_folder
from headrace_workers.core.progress import STUCK_EXIT

MAX_LOG_BYTES = 10_000_000  # a larger log is put aside (one generation) when its process starts
_POLL_SECONDS = 0.02
_LAST_BYTES = 4_096  # of a log, to find what was said last
_LAST_LENGTH = 300
_WHY: dict[int, str] = {
    signal.SIGKILL: " (for want of memory?)",
    signal.SIGPROF: " (one of its threads held up all others)",
}
_PR_SET_PDEATHSIG = 1
# Looked up here: between fork and exec another thread may hold the loader's lock.
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


class ChildFailed(HeadraceError):
    """A process of the embedded stack ended, or did not become ready."""

    category = Category.TRANSIENT


class ChildDied(ChildFailed):
    """The process was ready, and ended before its start was complete: the next one may live longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """A process to be kept running.

    `ready` is asked until it says yes, at most `ready_seconds`. `prepare` runs before every start, `started` after
    every start that became ready: while it is Unavailable and the process lives it is called again, as long once more.
    `grace_seconds` is how long it may take to stop after SIGTERM.
    `sign_of_life` tells when the process of an id was last seen to live (any number that grows; None: it cannot be
    told). A process that gave none for `silence_seconds` is killed and started again. A process that `works` runs jobs,
    and a job may be what kills it, unless it ends before it `was_ready`. Where `optional` says what to do about a
    process that crashes again and again, all else goes on without it.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None  # added to this process's environment
    prepare: Callable[[], None] | None = None
    ready: Callable[[], bool] | None = None
    started: Callable[[], None] | None = None
    ready_seconds: float = 60.0
    grace_seconds: float = 10.0
    sign_of_life: Callable[[int], float | None] | None = None
    silence_seconds: float = 60.0
    works: bool = False
    was_ready: Callable[[], bool] = lambda: True
    optional: str = ""


@dataclass(frozen=True, slots=True)
class Child:
    """A started process."""

    spec: ChildSpec
    process: "subprocess.Popen[bytes]"
    log: Path
    restarts: int = 0  # how often it was started again,
    last_end: str = ""  # and how the one before it ended

    @property
    def running(self) -> bool:
        """Return True if it has not ended."""
        return self.process.poll() is None

    @property
    def ending(self) -> str:
        """Return how it ended, in words that follow its name; only after its end."""
        code = self.process.returncode
        if code == STUCK_EXIT:
            return "ended itself, because one of its loops was stuck or a run hung"
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        # The log of a process that the kernel killed has few words about it, or none.
        return f"was killed by {name}" + _WHY.get(-code, "")


def start(spec: ChildSpec, log_folder: Path, *, env: Mapping[str, str] | None = None) -> Child:
    """Start it and wait until it is ready; ChildFailed says where its log is. OSError when the disk does not take it.

    On Linux the kernel kills it when the *thread* that started it ends: start children from a thread that stays.
    """
    if spec.prepare:
        spec.prepare()
    log = log_folder / f"{spec.name}.log"
    private_folder(log_folder)
    set_aside(log)
    with open(log, "ab", opener=opened_privately) as output:
        try:
            process = subprocess.Popen(
                list(spec.argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment(env), **(spec.env or {})},
                # A group of its own: Ctrl-C in the terminal reaches the parent alone, which stops them in order.
                process_group=0,
                umask=0o077,  # what it writes lies in the home
                preexec_fn=_die_with_parent(os.getpid()) if _PRCTL else None,  # noqa: PLW1509 - one system call
            )
        except OSError as error:
            raise ChildFailed(f"{spec.name} cannot be started: {spec.argv[0]}: {error.strerror}") from error
    child = Child(spec, process, log)
    try:
        _wait_ready(child)
        _finish_start(child)
    except BaseException:
        stop(child)
        raise
    return child


def stop(child: Child) -> None:
    """Send SIGTERM, then SIGKILL to its whole group after its grace period. A process that is gone is no error."""
    stop_together([child])


def stop_together(children: Sequence[Child]) -> None:
    """Stop several processes that do not need each other: all get the signal at once, and each has its grace period."""
    for child in children:
        child.process.send_signal(signal.SIGTERM)  # to the leader alone: it knows how to stop its own
    until = [time.monotonic() + child.spec.grace_seconds for child in children]
    for child, end in zip(children, until, strict=True):
        _finish(child, max(0.0, end - time.monotonic()))


def _finish(child: Child, seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(seconds)
    # Its own children are killed too, whether or not it ended well.
    _signal_group(child.process.pid, signal.SIGKILL)
    child.process.wait()


def last_words(log: Path) -> str:
    """Return the last output of a process that has ended, to be appended to how it ended; "" if there is none.

    The lines of a trace are passed over: they say where, and not what.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    messages = [line for line in lines if line.strip() and not line[0].isspace()]
    return f": {''.join(c for c in messages[-1] if c.isprintable())[:_LAST_LENGTH]}" if messages else ""


def set_aside(log: Path, limit: int = MAX_LOG_BYTES) -> None:
    """Put a log that has grown over the limit aside as `<name>.log.1`, in place of the one before."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > limit:
            log.replace(log.with_name(f"{log.name}.1"))


def started_at(pid: int) -> str | None:
    """Return when a process was started, in a form that only compares equal to itself; None when it is gone.

    Process ids are used again: only id and start together name a process.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        fields = stat.rpartition(")")[2].split()
        # Field 22 of proc(5): clock ticks since boot. A zombie (state Z) has ended.
        return None if fields[0] == "Z" else fields[19]
    except FileNotFoundError:
        if sys.platform == "linux":
            return None
    except ProcessLookupError:
        return None
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or None


def kill_group(pid: int) -> bool:
    """Send SIGKILL to a process and all that it has started; return True if any of them was there."""
    return _signal_group(pid, signal.SIGKILL)


def _wait_ready(child: Child) -> None:
    spec = child.spec
    if spec.ready is None:
        return
    until = time.monotonic() + spec.ready_seconds
    while not spec.ready():
        if not child.running:
            raise ChildFailed(f"{spec.name} {child.ending}{last_words(child.log)}; see {child.log}")
        if time.monotonic() > until:
            raise ChildFailed(f"{spec.name} is not ready after {spec.ready_seconds:g} s; see {child.log}")
        time.sleep(_POLL_SECONDS)


def _finish_start(child: Child) -> None:
    spec = child.spec
    if spec.started is None:
        return
    until = time.monotonic() + spec.ready_seconds
    while True:
        try:
            spec.started()
            return
        except Unavailable as error:
            if not child.running:
                raise ChildDied(f"{spec.name} {child.ending} while it was set up; see {child.log}") from error
            if time.monotonic() > until:
                raise ChildFailed(f"{spec.name} runs, and cannot be set up: {error}; see {child.log}") from error
            time.sleep(_POLL_SECONDS)


def _signal_group(pid: int, number: signal.Signals) -> bool:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _die_with_parent(parent: int) -> Callable[[], None]:
    def ask() -> None:
        # Runs between fork and exec: nothing but system calls. SIGTERM would let a child linger: nobody waits for it.
        if _PRCTL is not None:
            _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the call
            os._exit(1)

    return ask
