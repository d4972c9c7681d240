"""Health of the processes of a deployment on this machine: the file that each process locks, reports read from these
files, and the health check of containers.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import stat
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

from headrace_workers.core.log import Action, log
from headrace_workers.core.progress import Awaited, LoopState, Standing

if TYPE_CHECKING:
    from headrace_workers.runtime.settings import Settings


def deployment_of(settings: "Settings") -> str:
    """Return the name of a deployment in its files on this machine."""
    return deployment_named(settings.home, settings.kafka.prefix, settings.redis, settings.ledger)


def deployment_named(home: Path, prefix: str, redis: str, ledger: str) -> str:
    """Return the name that home, prefix and addresses give: a digest, without the users and passwords in them."""
    about = json.dumps([str(home.absolute()), prefix, _bare(redis), _bare(ledger)])
    return hashlib.sha256(about.encode()).hexdigest()[:12]


def _bare(url: str) -> list[str]:
    """Return an address without its user, and in one spelling: SQLAlchemy quotes and sorts where it adds a password."""
    address, _, query = re.sub(r"//[^/]*@", "//", url).partition("?")
    return [unquote(address), *sorted(map("=".join, parse_qsl(query)))]


def path_of(deployment: str, name: str) -> Path:
    """Return the path of a deployment's file, in the folder of this user's processes."""
    return Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}" / f"{deployment}-{name}.json"


class OwnFile:
    """File of this process. If it cannot be written, that is logged once, and the work goes on."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: Path) -> "OwnFile":
        """Create and lock the file, and remove those of processes that were killed. It gets its name only when it is
        locked, since readers take an unlocked file for a dead process's.
        """
        draft = path.with_suffix(".new")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            if not _is_ours(path.parent):
                raise PermissionError(errno.EPERM, "its folder belongs to another user")
            _remove_dead(path.parent)
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
        """Remove the file when the process ends as intended."""
        if self._descriptor is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    @staticmethod
    def _complain(path: Path, error: OSError) -> None:
        log("health", logging.WARNING, Action.UNAVAILABLE,
            f"{path} cannot be written ({error.strerror}): `headrace health` will not know this process")  # fmt: skip


def _is_ours(folder: Path) -> bool:
    """Return True if a folder is this user's alone: anybody may make one in the system's temporary folder."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _remove_dead(folder: Path) -> None:
    """Remove the files of processes of any deployment that were killed."""
    for path in folder.glob("*.json"):
        with suppress(OSError), path.open("rb") as file:
            if not is_locked(file.fileno()):
                path.unlink(missing_ok=True)


def is_locked(descriptor: int) -> bool:
    """Return True if a process that lives has this file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


# Reports about the processes of a deployment on this machine, read from the files that they write.
#
# Containers are checked with this every half minute: it loads the standard library, and little else.

KINDS = ("bridge", "worker", "gateway")

_STANDS_STILL = 30.0  # seconds without a word from a whole process


@dataclass(frozen=True, slots=True)
class Report:
    """Report of a process, and its time (`at`, monotonic). `stuck`: the silence of a loop that ends the process."""

    kind: str
    pid: int
    at: float
    stuck: float
    loops: tuple[LoopState, ...]
    policies: tuple[Standing, ...] = ()

    @property
    def age(self) -> float:
        """Return the seconds since it was written."""
        return max(0.0, time.monotonic() - self.at)

    @property
    def incidents(self) -> list[str]:
        """Return the faults of the process; empty when it is healthy. A loop is at fault at half of the silence that
        ends its process.
        """
        if self.age > min(_STANDS_STILL, self.stuck / 2):
            return [f"it has given no sign of life for {self.age:.0f} s: it is stopped, or starved"]
        return [words_of_silence(loop) for loop in self.loops if loop.silent > self.stuck / 2]

    @property
    def waits(self) -> list[str]:
        """Return the services that its loops wait for, a line each."""
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
        """Return the tasks that its loops are in the middle of, a line each."""
        return [loop.doing for loop in self.loops if loop.doing]

    @property
    def refused(self) -> list[str]:
        """Return the errors in policy files, and the version in force instead, each once."""
        found = {
            policy.refused: f"the moderation policy of before, {policy.version}, holds: {policy.refused}"
            for policy in self.policies
            if policy.refused is not None and not policy.outdated
        }
        return [*found.values()]

    def to_json(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        return {
            "kind": self.kind,
            "pid": self.pid,
            "healthy": not self.incidents,
            "troubles": self.incidents,
            "waits": self.waits,
            "doing": self.doing,
            "policies": [asdict(policy) for policy in self.policies],
        }


def reports(deployment: str, kind: str) -> list[Report]:
    """Return every process of this kind and deployment that lives on this machine and belongs to this user."""
    pattern = path_of(deployment, f"{kind}-*")
    if not pattern.parent.is_dir() or not _is_ours(pattern.parent):
        return []
    found = (_read(path) for path in sorted(pattern.parent.glob(pattern.name)))
    return [report for report in found if report is not None]


def last_sign(deployment: str, kind: str, pid: int) -> float | None:
    """Return when a process wrote down last how it stands (monotonic seconds); None when nothing is known of it."""
    report = _read(path_of(deployment, f"{kind}-{pid}"))
    return report.at if report else None


def judge(kind: str, found: Sequence[Report]) -> tuple[bool, str]:
    """Return False with what is wrong where a new start would mend it, and True with a line for each process.

    A process that waits for a service says so: it does no work meanwhile, and a new start of it would not help.
    """
    if not found:
        return False, f"no {kind} of this deployment runs here"
    if incidents := [f"{kind} {report.pid}: {incident}" for report in found for incident in report.incidents]:
        return False, "; ".join(incidents)
    return True, "\n".join(
        f"{kind} {report.pid}: "
        + "; ".join(["waiting" if report.waits else "healthy", *report.waits, *report.doing, *report.refused])
        for report in found
    )


def words_of_silence(state: LoopState) -> str:
    """Return a description of a loop that does not go on."""
    awaited = f"; it waited for {state.awaited.what} ({state.awaited.why})" if state.awaited else ""
    return f"the loop {state.name} has not gone on for {state.silent:.0f} s{awaited}"


def _read(path: Path) -> Report | None:
    """Return the report of a living process; None for a dead one, whose file is deleted."""
    for _ in range(5):  # it may be read while it is written
        try:
            with path.open("rb") as file:
                if not is_locked(file.fileno()):
                    path.unlink(missing_ok=True)
                    return None
                content = json.loads(file.read())
            return Report(
                kind=content["kind"],
                pid=content["pid"],
                at=content["at"],
                stuck=content["stuck"],
                loops=tuple(_state(loop) for loop in content["loops"]),
                policies=tuple(Standing(**policy) for policy in content["policies"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(0.02)
    return None


def _state(content: dict[str, Any]) -> LoopState:
    awaited = content["awaited"]
    return LoopState(**{**content, "awaited": Awaited(**awaited) if awaited else None})


# Health check of containers: `headrace health KIND` where the environment names the deployment.
#
# It runs every half minute in each container, so it costs a twentieth of a second of CPU time: it reads no settings but
# the names of the deployment, and loads the standard library and the few modules below.

_PREFIX: Final = "headrace."  # DEFAULT_PREFIX of headrace_schemas, whose import costs ten times this check


def check(arguments: Sequence[str], env: Mapping[str, str] = os.environ) -> int | None:
    """Print what `headrace health` prints and return its exit code. Return None if that takes the whole command line:
    there are options, the kind is unknown, or the addresses are those of a running `headrace up`.
    """
    home, redis, ledger = (env.get(f"HEADRACE_{name}") for name in ("HOME", "REDIS", "LEDGER"))
    if len(arguments) != 1 or arguments[0] not in KINDS or not (home and redis and ledger):
        return None
    (kind,) = arguments
    deployment = deployment_named(Path(home), env.get("HEADRACE_TOPIC_PREFIX") or _PREFIX, redis, ledger)
    healthy, words = judge(kind, reports(deployment, kind))
    with suppress(OSError):  # the exit code is the answer
        os.write(1 if healthy else 2, f"{'' if healthy else 'headrace: '}{words}\n".encode(errors="backslashreplace"))
    return 0 if healthy else 1
