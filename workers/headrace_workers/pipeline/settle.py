"""From what a step said about a task to what the ledger is to write. Pure."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime

from headrace_schemas import Category, EvaluationJob, GenerationJob, Result, StageRecord
from headrace_schemas.codec import decode_value
from headrace_schemas.event_types import topic_for, type_of
from headrace_schemas.events import JobEvent
from headrace_workers.identity import event_id
from headrace_workers.ledger.complete import Advanced, Postponed, Settled
from headrace_workers.ledger.dead import Burial, job_burial
from headrace_workers.ledger.outbox import outgoing
from headrace_workers.ledger.start import Started, StepRow
from headrace_workers.ledger.steps import NewStep
from headrace_workers.ledger.tables import NEVER
from headrace_workers.pipeline.outcome import Dead, Done, Outcome, Retry
from headrace_workers.pipeline.stages import stages_after
from headrace_workers.pipeline.task import Task

_FIRST_DELAY, _LONGEST_DELAY = 1.0, 60.0  # seconds
_DOUBLINGS = 16  # more than reach the longest delay, and few enough for a float


@dataclass(frozen=True, slots=True)
class Conditions:
    """What settling depends on beside the outcome: bounds, the judge's model, chance, and how long the run took."""

    max_attempts: int
    judge_model: str | None
    random: random.Random
    ran_ms: float


def _decoded(kind: str, payload: bytes) -> GenerationJob | EvaluationJob:
    return decode_value(f"headrace.job.{kind}.v1", payload)  # type: ignore[return-value]


def task_of(row: StepRow) -> Task:
    """The task that a claimed step is."""
    job = _decoded(row.kind, row.job_payload)
    event = job if row.payload is None else decode_value(row.event_type, row.payload)
    return Task(row.job_id, job, event, datetime.fromtimestamp(row.accepted_at / 1000, UTC), row.attempts)  # type: ignore[arg-type]


def settle(started: Started, row: StepRow, task: Task, outcome: Outcome, conditions: Conditions) -> Settled:
    """What becomes of one task."""
    match outcome:
        case Done(event):
            return _advance(started, row, task, event, conditions)
        case Retry():
            return _retry(started, row, task, outcome, conditions)
        case Dead(category, reason):
            return buried(started.stage, row, category, reason)


def failed(started: Started, row: StepRow, reason: str, conditions: Conditions) -> Settled:
    """What becomes of a step whose worker failed around it."""
    return _retry(started, row, None, Retry(reason), conditions)


def _advance(started: Started, row: StepRow, task: Task, event: JobEvent, conditions: Conditions) -> Advanced:
    record = StageRecord(
        stage=started.stage,
        attempt=max(1, row.attempts),
        waited_ms=max(0, started.now - row.ready_at),
        ran_ms=round(conditions.ran_ms, 1),
        group_size=len(started.steps),
    )
    changes: dict[str, object] = {"stages": (*event.stages, record)}
    if isinstance(event, Result):
        changes["total_ms"] = round(max(0.0, started.now - row.accepted_at + conditions.ran_ms), 1)
    event = event.model_copy(update=changes)
    event_type = type_of(event)  # type: ignore[arg-type]
    out = outgoing(
        event,  # type: ignore[arg-type]
        event_id=event_id(row.job_id, event_type, row.replays),
        job_id=row.job_id,
        traceparent=row.traceparent,
        correlationid=row.correlationid,
        at_ms=int(started.now + conditions.ran_ms),
    )
    following = tuple(
        NewStep(
            job_id=row.job_id,
            stage=stage.name,
            queue=(route := stage.route(task.job, row.job_id, conditions.judge_model)).queue,
            group_key=route.group,
            lane=row.lane,
            rank=row.rank,
            deadline=row.deadline,
            turn=row.turn,  # its place in the fair order: work that was begun goes before work that was not
            tokens=row.tokens,
            event_type=event_type,
            payload=out.value,
            read_bytes=len(row.job_payload) + len(out.value),
        )
        for stage in stages_after(topic_for(event))  # type: ignore[arg-type]
    )
    return Advanced(row.job_id, (out,), following, ends=not following, event=event)


def _retry(started: Started, row: StepRow, task: Task | None, retry: Retry, conditions: Conditions) -> Settled:
    delay = max(retry.after, backoff(row.attempts, conditions.random))
    due = started.now + int(conditions.ran_ms) + int(delay * 1000)
    last = row.attempts >= conditions.max_attempts
    if not last and (row.deadline >= NEVER or due < row.deadline):
        return Postponed(row.job_id, int(delay * 1000), retry.reason)
    if retry.otherwise is not None and task is not None:
        return _advance(started, row, task, retry.otherwise, conditions)
    if last:
        reason = f"given up after {row.attempts} attempts: {retry.reason}"
        return buried(started.stage, row, retry.category, reason)
    return buried(started.stage, row, Category.EXPIRED, f"the deadline leaves no time to try again: {retry.reason}")


def backoff(attempts: int, chance: random.Random) -> float:
    """Seconds before the next attempt: full jitter (Brooker, "Exponential backoff and jitter", AWS 2015)."""
    return chance.uniform(0, min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(_DOUBLINGS, max(0, attempts - 1))))


def buried(stage: str, row: StepRow, category: Category, reason: str) -> Burial:
    """The end of this job in `dead`."""
    return job_burial(
        job_id=row.job_id,
        tenant=row.tenant,
        kind=row.kind,
        payload=row.job_payload,
        replays=row.replays,
        traceparent=row.traceparent,
        correlationid=row.correlationid,
        stage=stage,
        attempts=row.attempts,
        category=category,
        reason=reason,
    )
