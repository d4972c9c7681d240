"""From a Kafka record to what the ledger takes: a job, a wish to cancel, or a refusal with its reason. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from headrace_schemas import CancelJob, Category, Envelope, EvaluationJob, GenerationJob, HeadraceError, Topic
from headrace_schemas.codec import TOPICS, decode, type_of
from headrace_schemas.errors import InvalidRecord, UnknownModel
from headrace_schemas.job import Lane
from headrace_workers.grouping import Job, estimate_tokens
from headrace_workers.identity import refusal_id
from headrace_workers.ledger.cancel import Cancellation
from headrace_workers.ledger.dead import Burial
from headrace_workers.ledger.ingest import BATCH, INTERACTIVE, NewJob, NewStep
from headrace_workers.ledger.tables import NEVER
from headrace_workers.stages import models_of, stages_after

INGEST = "ingest"  # the "stage" of a refusal
_TRACEPARENT_LENGTH = 64
# What a dead letter keeps of a record's headers.
_KEPT_HEADERS = 64
_KEPT_CHARACTERS = 1024  # of a name, and of a value


class KnownModels(Protocol):
    """What ingest asks about models."""

    def __contains__(self, alias: str) -> bool:
        """Whether a model answers to this alias."""

    def aliases(self) -> Sequence[str]:
        """All aliases, for messages."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it was consumed. `timestamp` (ms) is the one that its log keeps, the same at every reading."""

    topic: Topic
    partition: int
    offset: int
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes | None
    timestamp: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What acceptance depends on: the models there are, the judge's model, and the time by the ledger's clock (ms)."""

    models: KnownModels
    judge_model: str | None
    now: int


Accepted = NewJob | Cancellation | Burial


def accept(record: Record, rules: Rules) -> Accepted:
    """Decide about one record. Whatever is in it, this returns: a bad record is a `Burial`."""
    job: Job | None = None
    job_id: str | None = None
    try:
        envelope, event = decode(record.headers, record.value)
        if TOPICS[type(event)] is not record.topic:
            raise InvalidRecord(f"events of type {type_of(event)} belong on {TOPICS[type(event)]}, not {record.topic}")
        if isinstance(event, CancelJob):
            return Cancellation(event.job_id, event.tenant, event.reason, _trace(envelope))
        if not isinstance(event, GenerationJob | EvaluationJob):
            raise InvalidRecord(f"{type_of(event)} is no job")
        job, job_id = event, event.job_id(envelope.id)
        _check(job, envelope, rules)
        return _new_job(record.topic, envelope, job, job_id, record.value or b"", rules)
    except HeadraceError as error:
        return _refusal(record, job, job_id, error)
    except (ValueError, OverflowError) as error:  # such as a deadline in the year 1, which no clock can compare
        return _refusal(record, job, job_id, InvalidRecord(f"a value cannot be used: {error}"))


def _check(job: Job, envelope: Envelope, rules: Rules) -> None:
    for deadline in (job.deadline, envelope.expirytime):
        if deadline is not None and _ms(deadline) <= rules.now:
            raise InvalidRecord(f"the deadline {deadline.isoformat()} has passed")
    for alias in sorted(models_of(job, rules.judge_model)):
        if alias not in rules.models:
            known = ", ".join(rules.models.aliases()) or "none"
            raise UnknownModel(f"no model is called {alias!r}; known are: {known}")


def _new_job(topic: Topic, envelope: Envelope, job: Job, job_id: str, value: bytes, rules: Rules) -> NewJob:
    tokens = estimate_tokens(job)
    deadline = min((_ms(d) for d in (job.deadline, envelope.expirytime) if d is not None), default=NEVER)
    steps = []
    for stage in stages_after(topic):
        route = stage.route(job, job_id, rules.judge_model)
        steps.append(
            NewStep(
                job_id=job_id,
                stage=stage.name,
                queue=route.queue,
                group_key=route.group,
                lane=INTERACTIVE if job.lane is Lane.INTERACTIVE else BATCH,
                rank=9 - job.priority,
                deadline=deadline,
                turn=0,
                tokens=tokens,
                event_type=envelope.type,
            )
        )
    kind = "generation" if isinstance(job, GenerationJob) else "evaluation"
    return NewJob(job_id, job.tenant, kind, topic, value, _trace(envelope), tuple(steps))


def _refusal(record: Record, job: Job | None, job_id: str | None, error: HeadraceError) -> Burial:
    return Burial(
        id=refusal_id(str(record.topic), record.partition, record.offset, record.timestamp),
        job_id=job_id,
        tenant=job.tenant if job else None,
        category=Category.INVALID,
        reason=str(error),
        stage=INGEST,
        attempts=0,
        topic=record.topic,
        value=record.value or b"",
        headers=dict(_shown(name, value) for name, value in record.headers[:_KEPT_HEADERS]),
    )


def _shown(name: str, value: bytes | None) -> tuple[str, str]:
    return name[:_KEPT_CHARACTERS], (value or b"").decode("utf-8", "replace")[:_KEPT_CHARACTERS]


def _trace(envelope: Envelope) -> str | None:
    trace = envelope.traceparent
    return trace if trace and len(trace) <= _TRACEPARENT_LENGTH else None


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)
