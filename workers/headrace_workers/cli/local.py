"""The processes of this deployment that live on this machine: how they stand, and how often they were started again."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.environment import environment
from headrace_workers.runtime.embedded.home import CHILDREN_FILE
from headrace_workers.runtime.health.reports import KINDS, Report, deployment_of, reports
from headrace_workers.runtime.settings import Settings, home_of


@dataclass(frozen=True, slots=True)
class Restarted:
    """A process of the embedded stack that was started again."""

    name: str
    pid: int
    restarts: int
    last_end: str


@dataclass(frozen=True, slots=True)
class Local:
    """The processes of this machine, as they report themselves."""

    reports: tuple[Report, ...] = ()
    restarted: tuple[Restarted, ...] = ()

    def lines(self) -> list[str]:
        """Return what people should know, a line each; none if all is well."""
        lines = [
            f"{r.kind} {r.pid}: {line}" for r in self.reports for line in (*r.incidents, *r.waits, *r.doing, *r.refused)
        ]
        return lines + [
            f"{child.name} was started again {'once' if child.restarts == 1 else f'{child.restarts} times'}; the one "
            f"before {child.last_end}"
            for child in self.restarted
        ]

    def policies(self) -> list[str]:
        """Return a line for each version and file of the moderation policy in use.

        A line names the processes that use another version, and the processes that have not run since the file changed.
        """
        holds: dict[tuple[str, str], dict[str, list[str]]] = {}  # by path and version: what each process does under it
        past: dict[tuple[str, str], dict[str, list[str]]] = {}
        for report in self.reports:
            for each in report.policies:
                found = (past if each.outdated else holds).setdefault((each.path, each.version), {})
                found.setdefault(f"{report.kind} {report.pid}", []).append(each.what)
        return [
            f"moderation policy {version} of {path} holds" + (f" in {', '.join(does)}" if len(holds) > 1 else "")
            for (path, version), does in sorted(holds.items())
        ] + [
            f"{path} has changed, and is read again before its next use, by "
            f"{', '.join(_with(who, what) for who, what in does.items())}: last used there was {version}"
            for (path, version), does in sorted(past.items())
        ]

    def to_json(self) -> list[dict[str, Any]]:
        """Return each process for `--json`, with the loops that wait or are silent."""
        again = {child.pid: child for child in self.restarted}
        return [
            {
                **report.to_json(),
                "restarts": again[report.pid].restarts if report.pid in again else 0,
                "last_end": again[report.pid].last_end if report.pid in again else None,
            }
            for report in self.reports
        ]


def local(env: Mapping[str, str] | None = None) -> Local:
    """Return what is known here; nothing if the environment names no deployment."""
    env = environment(env)
    try:
        deployment = deployment_of(Settings.from_env(env))
    except ConfigurationError:
        return Local()
    found = tuple(report for kind in KINDS for report in reports(deployment, kind))
    return Local(found, _restarted(env))


def _restarted(env: Mapping[str, str]) -> tuple[Restarted, ...]:
    try:
        rows = json.loads((home_of(env) / CHILDREN_FILE).read_text(encoding="utf-8"))
        found = [Restarted(row["name"], row["pid"], row["restarts"], row["last_end"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return tuple(child for child in found if child.restarts)


def _with(who: str, what: Iterable[str]) -> str:
    return f"{who} ({', '.join(what)})"
