"""Reports about the processes of a deployment on this machine, read from the files that they write.

Containers are checked with this every half minute: it loads the standard library, and little else.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headrace_workers.core.progress import Awaited, LoopState, Standing
from headrace_workers.runtime.health.own_file import is_locked, path_of

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
            each.refused: f"the moderation policy of before, {each.version}, holds: {each.refused}"
            for each in self.policies
            if each.refused is not None and not each.outdated
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
            "policies": [asdict(each) for each in self.policies],
        }


def reports(deployment: str, kind: str) -> list[Report]:
    """Return every process of this kind and deployment that lives on this machine and belongs to this user."""
    pattern = path_of(deployment, f"{kind}-*")
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
                policies=tuple(Standing(**each) for each in content["policies"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(0.02)
    return None


def _state(content: dict[str, Any]) -> LoopState:
    awaited = content["awaited"]
    return LoopState(**{**content, "awaited": Awaited(**awaited) if awaited else None})
