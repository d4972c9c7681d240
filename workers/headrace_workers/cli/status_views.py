"""Rows and JSON of what `headrace status` shows: the ledger's answers, this machine's processes, features' parts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.connections import RunningStack
from headrace_workers.cli.durations import rfc3339, show_ms, show_time
from headrace_workers.cli.job_views import LANES, JobDetails, UnitObject
from headrace_workers.cli.unserved import start_command, unserved
from headrace_workers.core.environment import environment
from headrace_workers.core.feature import installed
from headrace_workers.runtime.embedded.home import CHILDREN_FILE
from headrace_workers.runtime.health.reports import KINDS, Report, deployment_of, reports
from headrace_workers.runtime.settings import Settings

if TYPE_CHECKING:
    from headrace_workers.core.ledger.change_feed import FollowerState
    from headrace_workers.core.ledger.counts import HeldCount, Overview, QueueCount
    from headrace_workers.core.ledger.incidents import Incident

Served = frozenset[str] | None  # queues that a worker listens to; None when it is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusPart:
    """A table of `headrace status`, which is left out if it has no rows, and the list of the same in `--json`.

    `name` is the list's in `--json`. `right` are the columns that are aligned to the right.
    """

    name: str
    items: Sequence[Mapping[str, Any]]
    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, ...]]
    right: Sequence[str] = ()


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
            for policy in report.policies:
                found = (past if policy.outdated else holds).setdefault((policy.path, policy.version), {})
                found.setdefault(f"{report.kind} {report.pid}", []).append(policy.what)
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
    try:
        return local_of(Settings.from_env(environment(env)))
    except ConfigurationError:
        return Local()


def local_of(settings: Settings) -> Local:
    """Return what is known here of the deployment with these settings."""
    deployment = deployment_of(settings)
    found = tuple(report for kind in KINDS for report in reports(deployment, kind))
    return Local(found, _restarted(settings.home))


def _restarted(home: Path) -> tuple[Restarted, ...]:
    try:
        rows = json.loads((home / CHILDREN_FILE).read_text(encoding="utf-8"))
        found = [Restarted(row["name"], row["pid"], row["restarts"], row["last_end"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return tuple(child for child in found if child.restarts)


def _with(who: str, what: Iterable[str]) -> str:
    return f"{who} ({', '.join(what)})"


def overview_dict(
    found: "Overview", stack: RunningStack | None, served: Served, here: Local, parts: Sequence[StatusPart] = ()
) -> dict[str, Any]:
    """Return the whole, for `--json`, with the parts of features.

    Ages are in ms; a queue's `served` is null when it is not known.
    """
    whole = asdict(found)
    whole["queues"] = [
        {**asdict(queue), "lane": LANES[queue.lane], "served": None if served is None else queue.queue in served}
        for queue in found.queues
    ]
    whole["troubles"] = [{**incident, "since": rfc3339(incident["since"])} for incident in whole.pop("incidents")]
    # Addresses may hold passwords, so show only the broker's kind and place.
    whole["processes"] = here.to_json()
    whole["embedded"] = stack and {
        "broker": stack.broker, "durable": stack.durable, "kafka": stack.kafka, "pid": stack.pid,
    }  # fmt: skip
    return whole | {part.name: part.items for part in parts}


def held_rows(held: Iterable["HeldCount"]) -> list[tuple[str, ...]]:
    """Return a row for each stage and reason why its steps are held."""
    return [
        (
            steps.stage,
            "a person" if steps.needs_person else "a service that works again",
            f"{steps.held:,}",
            show_ms(steps.oldest_ms),
            steps.reason[:200],
        )
        for steps in held
    ]


def queue_rows(queues: Iterable["QueueCount"], served: Served) -> list[tuple[str, ...]]:
    """Return a row for each queue, stage and lane."""

    def listens(queue: str) -> str:
        return "unknown" if served is None else "listens" if queue in served else "none"

    return [(q.queue, q.stage, LANES[q.lane], f"{q.waiting:,}", f"{q.in_flight:,}", listens(q.queue)) for q in queues]


def follower_rows(followers: Iterable["FollowerState"]) -> list[tuple[str, ...]]:
    """Return a row for each process and kind of change that it follows."""
    words = {kind: word for feature in installed() for kind, word in feature.change_kinds.items()}
    return [
        (
            follower.holder,
            words.get(follower.kind, follower.kind),
            f"{follower.behind:,}",
            show_ms(follower.lag_ms) if follower.behind else "–",
        )
        for follower in followers
    ]


def unserved_lines(queues: Iterable[str], served: Served) -> list[str]:
    """Return what to start for each queue that holds work and has no worker; the command has a line of its own."""
    return [
        f"no worker listens to {queue}, where work waits; start one with\n  {start_command(queue)}"
        for queue in unserved(queues, served)
    ]


def incident_words(incident: "Incident") -> str:
    """Return why an incident is reported, by what, and since when."""
    return f"{incident.reason} ({incident.holder}, since {show_time(incident.since)})"


def trouble_lines(incidents: Iterable["Incident"], held: int, set_aside: int) -> list[str]:
    """Return what is wrong, a line each: incidents, steps that are held, and events that Kafka refused."""
    lines = [f"{incident.subject}: {incident_words(incident)}" for incident in incidents]
    if held:
        lines.append(f"held: {held:,}; `headrace review held` says why")
    if set_aside:
        lines.append(f"Kafka refused {set_aside:,} events, which are set aside: see `headrace dead list --events`")
    return lines


def redis_is_away(why: str) -> str:
    """Return what to do about a Redis that does not answer, for this reason."""
    return f"it does not answer ({why}): start it, or correct HEADRACE_REDIS"


def aside_lines(job: JobDetails) -> list[str]:
    """Return the events of a job that Kafka refused, a line each."""
    return [
        f"its event {event.type} could not be published: {event.reason}"
        + (f"; {event.behind:,} later events of it wait behind that" if event.behind else "")
        for event in job.set_aside
    ]


def step_rows(job: JobDetails) -> list[tuple[str, ...]]:
    """Return a row for each step."""
    return [
        (
            step.stage,
            state_words(step.state, step.started_at, step.worker),
            f"{step.queue} ({step.lane})",
            str(step.attempts),
            show_ms(step.waited_ms),
            show_ms(step.ran_ms),
            (step.reason or "")[:200],
        )
        for step in job.steps
    ]


def state_words(state: str, began_at: int | None, worker: str | None) -> str:
    """Return a step's state in words; for a running step also its worker and since when (ms since 1970)."""
    if state != "leased":
        return state
    if began_at is None:
        return "handed out, not begun"
    return f"running since {show_time(began_at)} by {worker}"


def unit_rows(units: Sequence[UnitObject]) -> list[tuple[str, ...]]:
    """Return a row for each unit."""
    return [
        (unit.stage, unit.endpoint, unit.state, str(unit.attempts), unit.id, (unit.reason or "")[:200])
        for unit in units
    ]
