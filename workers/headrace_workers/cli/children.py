"""The processes of headrace itself that an embedded stack runs."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from headrace_workers.cli.readiness import LogWatch, all_ready
from headrace_workers.embedded.processes import ChildSpec
from headrace_workers.embedded.stack import Addresses

_COMMAND = (sys.executable, "-m", "headrace_workers")
_WORKER_READY = "ready for work"
_BRIDGE_READY = "the bridge runs"
_READY_SECONDS = 120.0


def children_of(
    home: Path, models: Sequence[str], *, judge_model: str | None = None, engine_threads: int | None = None
) -> Callable[[Addresses], list[ChildSpec]]:
    """A worker for each model, one that moderates and judges, and a bridge, for the services at given addresses.

    All start side by side, and the last is ready when all are. `judge_model` answers rubrics that name no model: the
    first model when absent, and nobody where there is no model.
    """
    judge = judge_model or next(iter(models), "")

    def specs(addresses: Addresses) -> list[ChildSpec]:
        env = {
            **addresses.env(),
            "HEADRACE_HOME": str(home.absolute()),
            "HEADRACE_JUDGE_MODEL": judge,
            **({"HEADRACE_INTER_THREADS": str(engine_threads)} if engine_threads else {}),
        }
        commands: dict[str, tuple[str, ...]] = {
            f"generate-{model}": ("worker", "--role", "generate", "--model", model) for model in models
        }
        commands["moderate-judge"] = ("worker", "--role", "moderate", "--role", "judge")
        commands["bridge"] = ("bridge",)
        return _started_together(home.absolute(), commands, env)

    return specs


def _started_together(home: Path, commands: Mapping[str, tuple[str, ...]], env: Mapping[str, str]) -> list[ChildSpec]:
    watches = {
        name: LogWatch(home / "log" / f"{name}.log", _BRIDGE_READY if name == "bridge" else _WORKER_READY)
        for name in commands
    }
    started = False

    def ready() -> bool:
        # A bridge that is started again later has no need to wait for the others.
        nonlocal started
        started = started or all_ready(home, watches)
        return started

    return [
        ChildSpec(
            name=name,
            argv=(*_COMMAND, *arguments),
            env=env,
            prepare=watches[name].mark,
            ready=ready if name == "bridge" else None,
            ready_seconds=_READY_SECONDS,
            grace_seconds=30.0,  # a group that is being answered may end; then unfinished work is given back
        )
        for name, arguments in commands.items()
    ]
