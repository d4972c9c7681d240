"""Rows and JSON of the ledger's answers. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from headrace_workers.cli.connections import RunningStack
from headrace_workers.cli.durations import rfc3339, show_ms, show_time
from headrace_workers.cli.job_views import LANES, JobDetails, UnitObject
from headrace_workers.cli.local import Local
from headrace_workers.cli.status_part import StatusPart
from headrace_workers.cli.unserved import start_command, unserved
from headrace_workers.core.feature import installed

if TYPE_CHECKING:
    from headrace_workers.core.ledger.change_feed import FollowerState
    from headrace_workers.core.ledger.counts import HeldCount, Overview, QueueCount

Served = frozenset[str] | None  # queues that a worker listens to; None when it is not known


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
    whole["troubles"] = [{**each, "since": rfc3339(each["since"])} for each in whole.pop("incidents")]
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
            each.stage,
            "a person" if each.needs_person else "a service that works again",
            f"{each.held:,}",
            show_ms(each.oldest_ms),
            each.reason[:200],
        )
        for each in held
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
        (each.holder, words.get(each.kind, each.kind), f"{each.behind:,}", show_ms(each.lag_ms) if each.behind else "–")
        for each in followers
    ]


def unserved_lines(queues: Iterable["QueueCount"], served: Served) -> list[str]:
    """Return what to start for each queue that holds work and has no worker; the command has a line of its own."""
    return [
        f"no worker listens to {queue}, where work waits; start one with\n  {start_command(queue)}"
        for queue in unserved((q.queue for q in queues), served)
    ]


def trouble_lines(found: "Overview") -> list[str]:
    """Return what is wrong, a line each."""
    lines = [f"{trouble.subject}: {trouble.reason} ({trouble.holder}, since {show_time(trouble.since)})"
             for trouble in found.incidents]  # fmt: skip
    if found.held:
        lines.append(f"held: {found.held:,}; `headrace moderation held list` says why")
    if found.set_aside:
        lines.append(f"Kafka refused {found.set_aside:,} events, which are set aside: see `headrace outbox list`")
    return lines


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
