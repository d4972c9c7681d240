"""Compiling of grammars, bounded twice: each in a process of its own, whose time and memory are bounded, and each
tenant in the time that its new formats take.

llguidance has bounds for some grammars only, and one whose rules are nested too deep ends the process. A format is
checked before its job is admitted: without a limit, many slow formats of one tenant would hold up the jobs of all.
"""

import atexit
import json
import signal
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final

from headrace_schemas.errors import Category, HeadraceError, Unavailable
from headrace_workers.models.structured.compile_server import BEGUN, BROKEN, ENDED, FRAME

ALLOWANCE: Final = 10.0  # CPU seconds a minute
FREE: Final = 0.05  # seconds of each format that do not count: real schemas take 0.004, and 0.012 at most
_MINUTE: Final = 60.0
_MOST_TENANTS: Final = 10_000

CPU_SECONDS: Final = 1
MEMORY: Final = 1024**3  # bytes of addresses; the interpreter takes about a tenth
# Seconds until a machine counts as too busy to tell. A bridge then asks about the same record again, and takes no
# others meanwhile: so this is long enough for a process that gets a thirtieth of a core.
_WAIT: Final = 30.0
_TRIES: Final = 3  # of servers that end before they begin
_KILLED: Final = 2  # times: then somebody ends each process, and the grammar is not to blame
# How a process ends by its bounds: an error of Python's, CPU time, memory, or levels of nesting.
_BY_BOUNDS: Final = frozenset(
    {
        "1",
        *(f"-{number:d}" for number in (signal.SIGXCPU, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL)),
    }
)
_LONGEST: Final = 500  # characters of a message


class FormatsTooSlow(HeadraceError):
    """A new format of a tenant whose formats have taken too long to be checked in the last minute."""

    category = Category.QUOTA


class CompileAllowance:
    """The CPU time that each tenant has used lately; it fades as time goes by. Thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = Lock()
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()  # seconds, and when they were noted

    def check(self, tenant: str) -> None:
        """Raise FormatsTooSlow where a tenant has used up its allowance."""
        with self._lock:
            over = self._used_by(tenant) - ALLOWANCE
        if over >= 0:
            wait = round(over * _MINUTE / ALLOWANCE) + 1
            raise FormatsTooSlow(
                f"new formats of the tenant {tenant} took more than {ALLOWANCE:g} s of CPU time to be checked: send "
                f"this one again in {wait} s, with a simpler schema or fewer different ones; a format that was checked "
                "before is taken at once"
            )

    def use(self, tenant: str, seconds: float) -> None:
        """Note the CPU seconds that a new format of a tenant took."""
        if seconds <= FREE:
            return
        with self._lock:
            self._used[tenant] = (self._used_by(tenant) + seconds - FREE, self._monotonic())
            self._used.move_to_end(tenant)
            if len(self._used) > _MOST_TENANTS:
                self._used.popitem(last=False)

    def _used_by(self, tenant: str) -> float:
        used, noted = self._used.get(tenant, (0.0, 0.0))
        return max(0.0, used - (self._monotonic() - noted) * ALLOWANCE / _MINUTE)


SERVER: Final = Path(__file__).with_name("compile_server.py")


def compile_apart(grammar: str) -> tuple[str | None, float]:
    """Return why a grammar cannot be compiled (None if it can) within its bounds, and the CPU seconds that it took.

    Raise Unavailable where the process had too little of the machine to tell.
    """
    until = time.monotonic() + _WAIT
    try:
        told = _server.ask(grammar.encode(), until)
    except TimeoutError:
        raise Unavailable("the machine is too busy to compile the format: try again later") from None
    except OSError as error:
        raise Unavailable(f"no process could compile the format: {error.strerror}") from error
    if told is None:
        bounds = f"{CPU_SECONDS} s, {MEMORY >> 20} MB or levels of nesting"
        return f"it takes more than {bounds} than are given to compile it", CPU_SECONDS
    seconds, _, fault = told.decode("utf-8", "replace").partition("\n")
    return fault[:_LONGEST] or None, float(seconds)


class _Server:
    """The server of this process; it starts when it is first asked, and again where it has ended. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def ask(self, grammar: bytes, until: float) -> bytes | None:
        """Return what the process of a grammar says; None where its bounds ended it. Raise TimeoutError, OSError."""
        killed = 0
        for _ in range(_TRIES):
            ours, theirs = socket.socketpair()
            with ours:
                with theirs:
                    begun = self._hand_over(theirs)
                told = _exchange(ours, grammar, until) if begun else b""
            if told.startswith(BEGUN + ENDED):
                return told.removeprefix(BEGUN + ENDED)
            if told.startswith(BEGUN):
                if told.removeprefix(BEGUN + BROKEN).decode() in _BY_BOUNDS:
                    return None
                killed += 1
                if killed == _KILLED:
                    raise OSError(0, "it was killed each time: the machine may have too little memory")
        raise OSError(0, "it ends at once")

    def _hand_over(self, theirs: socket.socket) -> bool:
        """Return False where the server had ended: for want of work, or since somebody ended it."""
        bounds = json.dumps({"cpu": CPU_SECONDS, "memory": MEMORY}).encode().ljust(FRAME)
        with self._lock:
            if self._socket is None:
                self._start()
            assert self._socket is not None  # noqa: S101 - for the type checker
            try:
                socket.send_fds(self._socket, [bounds], [theirs.fileno()])
            except (BrokenPipeError, ConnectionResetError):
                self._stop()
                return False
        return True

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(SERVER), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for us; when we have gone it ends
            )
        self._socket = ours

    def _stop(self) -> None:
        if self._socket is not None and self._process is not None:
            self._socket.close()
            self._process.kill()
            self._process.wait()
        self._socket = self._process = None

    def stop(self) -> None:
        """End the server, if there is one."""
        with self._lock:
            self._stop()


def _exchange(ours: socket.socket, grammar: bytes, until: float) -> bytes:
    """Send a grammar and return all that comes back. A process that its bounds ended leaves either half undone."""
    told = b""
    with suppress(BrokenPipeError, ConnectionResetError):
        ours.settimeout(max(0.001, until - time.monotonic()))
        ours.sendall(grammar)
        ours.shutdown(socket.SHUT_WR)
        while True:
            ours.settimeout(max(0.001, until - time.monotonic()))
            if not (part := ours.recv(65_536)):
                break
            told += part
    return told


_server: Final = _Server()
atexit.register(_server.stop)
