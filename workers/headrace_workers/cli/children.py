"""The processes of headrace itself that an embedded stack runs, and their readiness."""

import json
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

from headrace_workers.cli.output import say
from headrace_workers.core.environment import environment
from headrace_workers.runtime.embedded.child_processes import ChildFailed, ChildSpec, last_words, started_at
from headrace_workers.runtime.embedded.home import CHILDREN_FILE
from headrace_workers.runtime.embedded.stack import Addresses
from headrace_workers.runtime.health.reports import deployment_of, last_sign
from headrace_workers.runtime.settings import Settings


class LogWatch:
    """A search for a phrase in the part of a log that follows `mark`."""

    def __init__(self, log: Path, phrase: str) -> None:
        self.log = log
        self._phrase = phrase.encode()
        self._from = 0

    def mark(self) -> None:
        """Search from here on. A log that is rotated later is read from its beginning."""
        self._from = self.log.stat().st_size if self.log.is_file() else 0

    def seen(self) -> bool:
        """Return True if the phrase was written since."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(self._from if self._from <= size else 0)
                return self._phrase in file.read()
        except FileNotFoundError:
            return False


def still_starting(home: Path, watches: Mapping[str, LogWatch]) -> list[str]:
    """Return the processes that are not ready yet. Raise ChildFailed at once if one has ended."""
    waiting = {name: watch for name, watch in watches.items() if not watch.seen()}
    if not waiting:
        return []
    for name, pid in _children(home).items():
        if name in waiting and started_at(pid) is None:
            log = waiting[name].log
            raise ChildFailed(f"{name} ended while it was started{last_words(log)}; see {log}")
    return list(waiting)


def _children(home: Path) -> dict[str, int]:
    try:
        rows = json.loads((home / CHILDREN_FILE).read_text(encoding="utf-8"))
        return {str(row["name"]): int(row["pid"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


_COMMAND = (sys.executable, "-m", "headrace_workers")
_WORKER_READY = "ready for work"
_READY = {"bridge": "the bridge runs", "gateway": "the gateway answers"}
_READY_SECONDS = 600.0  # a large model from a slow disk; a process that ends is reported at once
_PATIENCE_SECONDS = 15.0  # then it is said who is waited for


def children_of(
    home: Path,
    models: Callable[[], Sequence[str]],
    *,
    named: Collection[str] | None = None,
    elsewhere: Collection[str] | None = None,
    judge_model: str | None = None,
    engine_threads: int | None = None,
    gateway_port: int | None = None,
) -> Callable[[Addresses], list[ChildSpec]]:
    """Return the processes: a worker for each model, a worker that moderates and judges, one for each role that stands
    apart and can be had here, a bridge, and a gateway if it has a port. Models that are `elsewhere` have one worker
    together, which is started unless that is None. `models` may return others later.

    All start side by side, and the last is ready when all are, except for the workers of models that were not `named`
    or were away: all else goes on without them. Where `named` is absent, it is what `models` returns first.
    `judge_model` answers rubrics that name no model: the first model when absent, and nobody where there is no model.
    """
    judge = judge_model or next(iter(models()), "")
    vital = set(models() if named is None else named)

    @lru_cache(maxsize=1)
    def specs(addresses: Addresses, served: tuple[str, ...]) -> list[ChildSpec]:
        from headrace_workers.core.pipeline.routing import Pipeline
        from headrace_workers.core.pipeline.stage import MODEL_ROLE

        vital.intersection_update(served)
        env = {
            **addresses.env(),
            "HEADRACE_HOME": str(home.absolute()),
            "HEADRACE_JUDGE_MODEL": judge,
            **({"HEADRACE_INTER_THREADS": str(engine_threads)} if engine_threads else {}),
        }
        commands: dict[str, tuple[str, ...]] = {
            f"generate-{model}": ("worker", "--role", MODEL_ROLE, "--model", model)
            for model in served
            if model not in (elsewhere or ())
        }
        if elsewhere is not None:
            commands["generate-remote"] = ("worker", "--role", MODEL_ROLE, "--remote")
        pipeline = Pipeline()
        apart = {stage.role: stage.apart for stage in pipeline.stages if stage.apart is not None}
        light = [role for role in pipeline.roles if role != MODEL_ROLE and role not in apart]
        commands["-".join(light)] = ("worker", *(word for role in light for word in ("--role", role)))
        commands |= {role: ("worker", "--role", role) for role, can_run in apart.items() if can_run()}
        if gateway_port is not None:
            commands["gateway"] = ("gateway", "--port", str(gateway_port))
        commands["bridge"] = ("bridge",)
        optional = {
            f"generate-{model}": f"Mend the folder {home.absolute() / 'models' / model}, or delete the model with "
            f"`headrace models delete {model}`"
            for model in served
            if model not in vital
        }
        return _started_together(home.absolute(), commands, env, optional)

    return lambda addresses: specs(addresses, tuple(models()))


def _started_together(
    home: Path, commands: Mapping[str, tuple[str, ...]], env: Mapping[str, str], optional: Mapping[str, str]
) -> list[ChildSpec]:
    watches = {
        name: LogWatch(home / "log" / f"{name}.log", _READY.get(arguments[0], _WORKER_READY))
        for name, arguments in commands.items()
    }
    patience = _Patience(home, {name: watch for name, watch in watches.items() if name not in optional})
    settings = Settings.from_env({**environment(), **env})
    return [
        ChildSpec(
            name=name,
            argv=(*_COMMAND, *arguments),
            env=env,
            prepare=watches[name].mark,
            ready=patience.over if name == "bridge" else None,
            ready_seconds=2 * _READY_SECONDS,  # it is for `patience` to say who is late
            grace_seconds=30.0,  # a group that is being answered may end; then unfinished work is given back
            works=arguments[0] == "worker",
            was_ready=watches[name].seen,
            optional=optional.get(name, ""),
            sign_of_life=partial(last_sign, deployment_of(settings), arguments[0]),
            # Later than it would end itself, and than its work has gone to others.
            silence_seconds=settings.stuck + settings.lease,
        )
        for name, arguments in commands.items()
    ]


class _Patience:
    """The wait until all processes are ready for work. It names the late ones."""

    def __init__(
        self, home: Path, watches: Mapping[str, LogWatch], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._home = home
        self._watches = watches
        self._monotonic = monotonic
        self._since: float | None = None
        self._announced = False
        self._over = False

    def over(self) -> bool:
        """Return True if all are ready. Raise ChildFailed when one has ended instead, or is too late."""
        # A bridge that is started again later has no need to wait for the others.
        self._over = self._over or not self._late()
        return self._over

    def _late(self) -> list[str]:
        late, now = still_starting(self._home, self._watches), self._monotonic()
        self._since = now if self._since is None else self._since
        if late and now - self._since > _READY_SECONDS:
            logs = ", ".join(str(self._watches[name].log) for name in late)
            raise ChildFailed(f"{', '.join(late)}: not ready after {_READY_SECONDS:g} s; see {logs}")
        if late and now - self._since > _PATIENCE_SECONDS and not self._announced:
            self._announced = True
            say(f"waiting for {', '.join(late)}")
        return late
