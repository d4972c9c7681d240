"""From a Kafka record to what the ledger takes: a job, a wish to cancel, a label, or a refusal with a reason. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from headrace_schemas import (
    CancelJob,
    EmbeddingJob,
    Envelope,
    GenerationJob,
    HeadraceError,
    Message,
    ModerationJob,
)
from headrace_schemas.codec import decode_value
from headrace_schemas.errors import DeadlinePassed, InvalidRecord, UnknownModel
from headrace_schemas.event_types import kind_of, type_named, type_of
from headrace_schemas.job import JOB_NAMESPACE, POLICY_MODEL, AnyJob, Lane
from headrace_schemas.review import Review
from headrace_schemas.structured import to_binary
from headrace_workers.core.ledger.cancel import Cancellation
from headrace_workers.core.ledger.dead import Burial
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.lanes import BATCH, INTERACTIVE
from headrace_workers.core.ledger.records import ReceivedReview, Record
from headrace_workers.core.ledger.refusals import refusal
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.pipeline.grouping import estimate_tokens
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.task import Job
from headrace_workers.core.tables import NEVER
from headrace_workers.features.judging.usable import check_usable
from headrace_workers.features.webhooks.allowed_targets import Reach
from headrace_workers.features.webhooks.callbacks import check_url
from headrace_workers.runtime.bridge.claimed_ids import meant

_TRACEPARENT_LENGTH = 64


class KnownModels(Protocol):
    """What ingest asks about models."""

    def __contains__(self, alias: str) -> bool:
        """Whether a model answers to this alias."""

    def aliases(self) -> Sequence[str]:
        """All aliases, for messages."""

    def prompt_tokens(self, alias: str, messages: Sequence[Message], tenant: str) -> int | None:
        """The tokens of a tenant's prompt by its model's own count, None when only a guess can be had; raises what is
        wrong.
        """


class KnownEmbedder(Protocol):
    """What ingest asks about the embedder."""

    def input_tokens(self, alias: str, text: str) -> int | None:
        """The tokens of a text as the embedder of this alias reads it, None when only a guess can be had; raises
        UnknownModel, InputTooLong.
        """


@dataclass(frozen=True, slots=True)
class Rules:
    """What acceptance depends on: the models and the embedder there are, the pipeline, the time by the ledger's clock
    (ms), and where callbacks may go.
    """

    models: KnownModels
    embedder: KnownEmbedder
    pipeline: Pipeline
    now: int
    reach: Reach


Accepted = NewJob | Cancellation | ReceivedReview | Burial


def accept(record: Record, rules: Rules) -> Accepted:
    """Decide about one record. Whatever is in it, this returns: a bad record is a `Burial`."""
    envelope: Envelope | None = None
    sound = False
    try:
        if record.unreadable is not None:
            raise InvalidRecord(record.unreadable)
        record = _in_binary_mode(record)
        envelope = Envelope.from_headers(record.headers)
        _check_topic(envelope.type, record)
        event = decode_value(envelope.type, record.value)
        if isinstance(event, CancelJob):
            _check_names(record, envelope, event.job_id, "the value's job_id")
            return Cancellation(
                event.job_id, event.tenant, event.reason, _trace(envelope), envelope.correlationid, record
            )
        if isinstance(event, Review):
            _check_names(record, envelope, event.job_id, "the value's job_id")
            return ReceivedReview(event, record, _trace(envelope))
        if not isinstance(event, AnyJob):
            raise InvalidRecord(f"{type_of(event)} is no job")
        job_id = event.job_id(envelope.id)
        _check_names(record, envelope, job_id, "the id of its tenant and idempotency key (or ce_id)")
        sound = True  # what follows depends on the time and on this deployment
        _check(event, envelope, rules)
        return _new_job(record, envelope, job_id, event, rules)
    except HeadraceError as error:
        return _refusal(record, envelope, error, sound=sound)
    except (ValueError, OverflowError) as error:  # such as a deadline in the year 1, which no clock can compare
        return _refusal(record, envelope, InvalidRecord(f"a value cannot be used: {error}"))


def _in_binary_mode(record: Record) -> Record:
    """What came in structured mode, with its attributes as headers and its data as the value: all else reads that."""
    headers, value = to_binary(record.headers, record.value)
    return record if value is record.value else replace(record, headers=tuple(headers), value=value)


def _check_topic(event_type: str, record: Record) -> None:
    """Before the value is read: on the wrong topic nothing else that may be wrong with it matters."""
    named = type_named(event_type)
    if named is not None and named.topic is not record.topic:
        raise InvalidRecord(
            f"wrong topic: events of type {named.name} belong on {named.topic}, and this one is on {record.topic}"
        )


def _check_names(record: Record, envelope: Envelope, job_id: str, what: str) -> None:
    """Whoever names the job by another id waits for an answer under it that never comes."""
    names = {"key": record.key_text, "ce_subject": envelope.subject, "ce_partitionkey": envelope.partitionkey}
    for name, found in names.items():
        if found and found != job_id:
            raise InvalidRecord(
                f"{name} is {found!r}, and {what} is {job_id!r}: correct it, or leave it out "
                f"(ids are UUIDv5 in {JOB_NAMESPACE})"
            )


def _check(job: Job, envelope: Envelope, rules: Rules) -> None:
    check_url(job.callback, rules.reach)
    check_usable(job)
    for deadline in (job.deadline, envelope.expirytime):
        if deadline is not None and _ms(deadline) <= rules.now:
            raise DeadlinePassed(f"the deadline {deadline.isoformat()} has passed")
    for alias in sorted(rules.pipeline.models_of(job)):
        if alias not in rules.models:
            known = ", ".join(rules.models.aliases()) or "none"
            raise UnknownModel(f"no model is called {alias!r}; known are: {known}")
    if isinstance(job, ModerationJob) and job.model not in (None, POLICY_MODEL):
        raise UnknownModel(f"no moderator is called {job.model!r}; there is: {POLICY_MODEL}, which need not be named")


def _new_job(record: Record, envelope: Envelope, job_id: str, job: Job, rules: Rules) -> NewJob:
    tokens = _tokens(job, rules)
    deadline = min((_ms(d) for d in (job.deadline, envelope.expirytime) if d is not None), default=NEVER)
    route = rules.pipeline.next_step(job_id, job, job)
    if route is None:
        raise InvalidRecord(f"no stage of this deployment takes {type_of(job)}")
    step = NewStep(
        job_id=job_id,
        stage=route.stage.name,
        queue=route.queue,
        group_key=route.group,
        prefix=route.prefix,
        sized=route.stage.weight.sized,
        lane=INTERACTIVE if job.lane is Lane.INTERACTIVE else BATCH,
        rank=9 - job.priority,
        deadline=deadline,
        turn=0,
        tokens=tokens,
        event_type=envelope.type,
    )
    # Without a key the id comes from the event's, and is found by that.
    ce_id = envelope.id if job.idempotency_key not in (None, envelope.id) and envelope.id != job_id else None
    return NewJob(
        id=job_id,
        tenant=job.tenant,
        kind=kind_of(job),
        payload=record.value or b"",
        record=record,
        steps=(step,),
        traceparent=_trace(envelope),
        correlationid=envelope.correlationid,
        ce_id=ce_id,
        callback=job.callback.model_dump_json(exclude_none=True) if job.callback else None,
        knowledge=job.knowledge if isinstance(job, GenerationJob) else None,
        most_tokens=rules.pipeline.most_tokens(job, tokens),
    )


def _tokens(job: Job, rules: Rules) -> int:
    """What the job costs, exactly where its model can say so. InvalidRecord when what it reads cannot be read."""
    try:
        counted = _counted(job, rules)
    except HeadraceError as error:  # whatever it is to a worker: here the record is wrong, and another may be right
        raise InvalidRecord(str(error)) from error
    return estimate_tokens(job) if counted is None else counted


def _counted(job: Job, rules: Rules) -> int | None:
    match job:
        case GenerationJob():
            prompt = rules.models.prompt_tokens(job.model, job.conversation, job.tenant)
            return None if prompt is None else prompt + job.sampling.max_tokens
        case EmbeddingJob():
            return rules.embedder.input_tokens(job.model, job.input)
    return None


def _refusal(record: Record, envelope: Envelope | None, error: HeadraceError, *, sound: bool = False) -> Burial:
    tenant, job_id = meant(record)
    refused = refusal(
        record,
        error.category,
        str(error),
        refers_to=job_id,
        tenant=tenant,
        traceparent=_trace(envelope) if envelope else None,
        sound=sound,
    )
    return replace(refused, error=error)


def _trace(envelope: Envelope) -> str | None:
    trace = envelope.traceparent
    return trace if trace and len(trace) <= _TRACEPARENT_LENGTH else None


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)
