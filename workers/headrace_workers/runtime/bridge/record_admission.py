"""Admission of Kafka records: jobs, cancellations and reviews, or refusals with a reason."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter

from headrace_schemas import CancelJob, Envelope, GenerationJob, HeadraceError
from headrace_schemas.codec import decode_value, encode_value
from headrace_schemas.errors import InvalidRecord, Unavailable
from headrace_schemas.event_types import kind_of, type_named, type_of
from headrace_schemas.job import JOB_NAMESPACE, AnyJob, Lane, derive_job_id
from headrace_schemas.job import Job as SentJob
from headrace_schemas.limits import Key, Tenant
from headrace_schemas.review import Review
from headrace_schemas.structured import to_binary
from headrace_schemas.topics import ABOUT_JOBS, Topic
from headrace_workers.core.admission import AdmissionRules, NamedResources, ResolvedJob, milliseconds
from headrace_workers.core.json_lines import NoJSON, parsed
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.dead_letters import Burial, ReceivedReview, Record, refusal
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.steps import BATCH, INTERACTIVE, NewStep
from headrace_workers.core.pipeline.task import Job
from headrace_workers.core.tables import NEVER

_TENANT: Final[TypeAdapter[str]] = TypeAdapter(Tenant)
_KEY: Final[TypeAdapter[str]] = TypeAdapter(Key)
_DEFAULT_TENANT: Final = SentJob.model_fields["tenant"].default


def claimed_by(record: Record) -> tuple[str | None, str | None]:
    """Return the tenant and the job's id that a record is about, each None if it is unknown."""
    fields = _fields(record.value)
    if fields is None:
        return None, None
    try:
        tenant = _TENANT.validate_python(fields.get("tenant", _DEFAULT_TENANT))
    except ValueError:
        return None, None
    try:
        if record.topic in ABOUT_JOBS:
            return tenant, CancelJob(job_id=fields.get("job_id")).job_id
        key = fields.get("idempotency_key")
        return tenant, derive_job_id(tenant, _KEY.validate_python(record.header("ce_id") if key is None else key))
    except ValueError:
        return tenant, None


def _fields(value: bytes | None) -> dict[str, Any] | None:
    try:
        found = json.loads(value or b"")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


_TRACEPARENT_LENGTH = 64
_TENANT_SHARE: Final = 0.25  # of a round, for the jobs of one tenant in each part

Accepted = NewJob | Cancellation | ReceivedReview | Burial


class _SentJob(NamedTuple):
    """A job that a record brought, before it is checked."""

    record: Record
    envelope: Envelope
    job_id: str
    job: Job


class _JobToAdmit(NamedTuple):
    """A job that a record brought, and what is to be run."""

    sent: _SentJob
    resolved: ResolvedJob


class _Part(NamedTuple):
    """A part of a round, which ends when this share of the round's time is used up."""

    name: str
    ends_at: float


# Applications are rendered in the first half, so that what was rendered can be decided in the same round.
_RENDERING: Final = _Part("rendering", 0.5)
_DECIDING: Final = _Part("deciding", 1.0)


class RoundBudget:
    """The seconds that the records of one round may take, and how many of them each tenant has used in each part."""

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._began = self._at = monotonic()
        self._used: dict[tuple[str, _Part], float] = {}

    def allows(self, tenant: str, part: _Part) -> bool:
        """Return True if there is time for a further job of this tenant."""
        if self._at - self._began >= self._seconds * part.ends_at:
            return False
        return self._used.get((tenant, part), 0.0) < self._seconds * _TENANT_SHARE

    def count(self, tenant: str, part: _Part) -> None:
        """Count the time since the last call as the tenant's."""
        now = self._monotonic()
        self._used[tenant, part] = self._used.get((tenant, part), 0.0) + now - self._at
        self._at = now

    def skip(self) -> None:
        """Count the time since the last call as nobody's."""
        self._at = self._monotonic()


class RecordAdmission:
    """Admission of the records of one look. `now` is the time by the ledger's clock (ms)."""

    def __init__(self, rules: AdmissionRules, now: int) -> None:
        self._rules = rules
        self._now = now
        self._named = NamedResources(rules.checks)

    def admit_all(self, records: Sequence[Record], budget: RoundBudget | None = None) -> list[Accepted | None]:
        """Decide about these records in their order, and ask the ledger once for all that they name.

        A record is None that is to be read again, and so are the later ones of its partition: the round or its tenant's
        part of it is used up, or the machine is too busy to compile its format. At least one record is decided. A bad
        record becomes a `Burial`; no content raises. Raise Unavailable where the ledger does not answer, or the machine
        is too busy for the first of them.
        """
        budget = budget or RoundBudget(float("inf"), time.monotonic)
        read = self._resolved([_read(record) for record in records], records, budget)
        self._named.look_up(row.resolved for row in read if isinstance(row, _JobToAdmit))
        budget.skip()
        decided: list[Accepted | None] = []
        left: set[tuple[Topic, int]] = set()  # partitions whose later records are read again
        count, busy = 0, False
        for record, row in zip(records, read, strict=True):
            place = record.topic, record.partition
            found = None if busy or row is None or place in left else row
            if isinstance(found, _JobToAdmit):
                tenant = found.sent.job.tenant
                if count and not budget.allows(tenant, _DECIDING):
                    found = None
                else:
                    try:
                        found = self._admit(*found)
                    except Unavailable:
                        if not count:
                            raise
                        found, busy = None, True
                    budget.count(tenant, _DECIDING)
            if found is None:
                left.add(place)
            count += found is not None
            decided.append(found)
        return decided

    def admit(self, record: Record) -> Accepted:
        """Decide about one record; see `admit_all`."""
        (decided,) = self.admit_all([record])
        assert decided is not None  # noqa: S101 - one is always decided
        return decided

    def _resolved(
        self, read: "Sequence[_SentJob | Accepted]", records: Sequence[Record], budget: RoundBudget
    ) -> "list[_JobToAdmit | Accepted | None]":
        """Return these jobs with their names resolved, or refused. The ledger is asked once for all of them."""
        names = [
            self._rules.wanted(sent.job, sent.envelope.applicationversion) if isinstance(sent, _SentJob) else None
            for sent in read
        ]
        found = self._rules.find(names)
        budget.skip()
        resolved: list[_JobToAdmit | Accepted | None] = []
        left: set[tuple[Topic, int]] = set()
        for record, sent, name in zip(records, read, names, strict=True):
            place = record.topic, record.partition
            if place in left:
                resolved.append(None)
                continue
            if not isinstance(sent, _SentJob):
                resolved.append(sent)
                continue
            if resolved and not budget.allows(sent.job.tenant, _RENDERING):
                left.add(place)
                resolved.append(None)
                continue
            try:
                resolved.append(_JobToAdmit(sent, self._rules.resolve(sent.job, name, found)))
            except HeadraceError as error:
                resolved.append(_refusal(sent.record, sent.envelope, error, sound=True))
            if name is not None:  # it was rendered
                budget.count(sent.job.tenant, _RENDERING)
        return resolved

    def _admit(self, sent: _SentJob, resolved: ResolvedJob) -> NewJob | Burial:
        """Apply the rules, which depend on the time and on this deployment: the record itself is sound."""
        try:
            self._rules.check(resolved, self._now, sent.envelope.expirytime)
            new = self._new_job(sent, resolved)
            self._named.check(resolved)
        except Unavailable:  # the record is read again
            raise
        except HeadraceError as error:
            return _refusal(sent.record, sent.envelope, error, sound=True)
        except (ValueError, OverflowError) as error:
            return _unusable(sent.record, sent.envelope, error)
        return new

    def _new_job(self, sent: _SentJob, resolved: ResolvedJob) -> NewJob:
        record, envelope, job_id, job = sent.record, sent.envelope, sent.job_id, resolved.job
        tokens = self._rules.examine(job)
        resolution = job.resolution if isinstance(job, GenerationJob) else None
        payload = (record.value or b"") if resolution is None else encode_value(job)
        deadlines = [milliseconds(item) for item in (job.deadline, envelope.expirytime) if item is not None]
        first = self._rules.first_step(job_id, resolved, tokens, len(payload))
        route = first.route
        step = NewStep(
            job_id=job_id,
            stage=route.stage.name,
            queue=route.queue,
            group_key=route.group,
            prefix=route.prefix,
            sized=route.stage.weight.sized,
            lane=INTERACTIVE if job.lane is Lane.INTERACTIVE else BATCH,
            rank=9 - job.priority,
            deadline=min(deadlines, default=NEVER),
            turn=0,
            tokens=first.tokens,
            event_type=envelope.type,
            context=first.context,
        )
        # Without a key the id comes from the event's, and is found by that.
        ce_id = envelope.id if job.idempotency_key not in (None, envelope.id) and envelope.id != job_id else None
        return NewJob(
            id=job_id,
            tenant=job.tenant,
            kind=kind_of(job),
            payload=payload,
            record=record,
            steps=(step,),
            traceparent=_trace(envelope),
            correlationid=envelope.correlationid,
            ce_id=ce_id,
            sent=None if resolution is None else record.value,
            application=None if resolution is None else str(resolution.application),
            callback=job.callback.model_dump_json(exclude_none=True) if job.callback else None,
            most_tokens=self._rules.pipeline.most_tokens(job, tokens),
            money=(first.call.most or 0) if first.call else 0,
            unpriced=resolved.unpriced,
        )


def _read(record: Record) -> _SentJob | Accepted:
    envelope: Envelope | None = None
    try:
        if record.unreadable is not None:
            raise InvalidRecord(record.unreadable)
        record = _in_binary_mode(record)
        envelope = Envelope.from_headers(record.headers)
        _check_topic(envelope.type, record)
        event = decode_value(envelope.type, record.value)
        if isinstance(event, CancelJob):
            _check_ids(record, envelope, event.job_id, "the value's job_id")
            return Cancellation(
                event.job_id, event.tenant, event.reason, _trace(envelope), envelope.correlationid, record
            )
        if isinstance(event, Review):
            _check_ids(record, envelope, event.job_id, "the value's job_id")
            return ReceivedReview(event, record, _trace(envelope))
        if not isinstance(event, AnyJob):
            raise InvalidRecord(f"{type_of(event)} is no job")
        _check_names(event, record)
        job_id = event.job_id(envelope.id)
        _check_ids(record, envelope, job_id, "the id of its tenant and idempotency key (or ce_id)")
        return _SentJob(record, envelope, job_id, event)
    except HeadraceError as error:
        return _refusal(record, envelope, error)
    except (ValueError, OverflowError) as error:
        return _unusable(record, envelope, error)


def _in_binary_mode(record: Record) -> Record:
    """Return a record of structured mode with its attributes as headers and its data as the value."""
    headers, value = to_binary(record.headers, record.value)
    return record if value is record.value else replace(record, headers=tuple(headers), value=value)


def _check_topic(event_type: str, record: Record) -> None:
    """Raise InvalidRecord on the wrong topic, before the value is read: nothing else that is wrong matters there."""
    named = type_named(event_type)
    if named is not None and named.topic is not record.topic:
        raise InvalidRecord(
            f"wrong topic: events of type {named.name} belong on {named.topic}, and this one is on {record.topic}"
        )


def _check_names(job: Job, record: Record) -> None:
    """Raise InvalidRecord where a job with a schema names something twice: readers of JSON differ in what that says."""
    if isinstance(job, GenerationJob) and (job.output is not None or job.tools):
        try:
            parsed(record.value or b"")
        except NoJSON as error:
            raise InvalidRecord(f"value: {error}") from None


def _check_ids(record: Record, envelope: Envelope, job_id: str, what: str) -> None:
    """Raise InvalidRecord where the record names its job by another id: its sender would wait for that in vain."""
    names = {"key": record.key_text, "ce_subject": envelope.subject, "ce_partitionkey": envelope.partitionkey}
    for name, text in names.items():
        if text and text != job_id:
            raise InvalidRecord(
                f"{name} is {text!r}, and {what} is {job_id!r}: correct it, or leave it out "
                f"(ids are UUIDv5 in {JOB_NAMESPACE})"
            )


def _unusable(record: Record, envelope: Envelope | None, error: Exception) -> Burial:
    """Refuse a record with a value such as a deadline in the year 1, which no clock can compare."""
    return _refusal(record, envelope, InvalidRecord(f"a value cannot be used: {error}"))


def _refusal(record: Record, envelope: Envelope | None, error: HeadraceError, *, sound: bool = False) -> Burial:
    tenant, job_id = claimed_by(record)
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
