"""From the ledger's answers to rows and to JSON. Pure."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from headrace_workers.cli.durations import show_ms
from headrace_workers.cli.reach import RunningStack

if TYPE_CHECKING:
    from headrace_workers.ledger.counts import JobView, Overview, QueueCount

LANES = ("interactive", "batch")


def overview_dict(found: "Overview", stack: RunningStack | None) -> dict[str, Any]:
    """The whole, for `--json`. Ages in ms."""
    whole = asdict(found)
    whole["queues"] = [{**asdict(queue), "lane": LANES[queue.lane]} for queue in found.queues]
    # Addresses may hold passwords; only the broker's kind and place are told.
    whole["embedded"] = stack and {
        "broker": stack.broker, "durable": stack.durable, "kafka": stack.kafka, "pid": stack.pid,
    }  # fmt: skip
    return whole


def queue_rows(queues: Iterable["QueueCount"]) -> list[tuple[str, ...]]:
    """A row a queue, stage and lane."""
    return [(q.queue, q.stage, LANES[q.lane], f"{q.waiting:,}", f"{q.in_flight:,}") for q in queues]


def step_rows(view: "JobView") -> list[tuple[str, ...]]:
    """A row a step."""
    return [
        (
            step.stage,
            step.state,
            f"{step.queue} ({LANES[step.lane]})",
            str(step.attempts),
            show_ms(waited_ms(step, view.now)),
            show_ms(ran_ms(step, view.now)),
            (step.reason or "")[:200],
        )
        for step in view.steps
    ]


def waited_ms(step: Any, now: int) -> int:
    """How long a step was ready before it ran; for one that has not begun, until now."""
    until = step.started_at or step.ended_at or now
    return max(0, int(until - step.ready_at))


def ran_ms(step: Any, now: int) -> int | None:
    """How long it ran, or runs; None when it has not begun."""
    if step.started_at is None:
        return None
    return max(0, int((step.ended_at or now) - step.started_at))


def job_dict(view: "JobView") -> dict[str, Any]:
    """One job, for `--json`. Times in ms since 1970, durations in ms."""
    job = view.job
    return {
        "job_id": job.id,
        "tenant": job.tenant,
        "kind": job.kind,
        "state": job.state,
        "replays": job.replays,
        "accepted_at": job.accepted_at,
        "ended_at": job.ended_at,
        "steps": [
            {
                "stage": step.stage,
                "state": step.state,
                "queue": step.queue,
                "lane": LANES[step.lane],
                "attempts": step.attempts,
                "waited_ms": waited_ms(step, view.now),
                "ran_ms": ran_ms(step, view.now),
                "reason": step.reason,
            }
            for step in view.steps
        ],
        "receipt": {"type": job.terminal_type, **json.loads(bytes(job.terminal))} if job.terminal else None,
    }
