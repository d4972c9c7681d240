"""The one codec: an event and its envelope, to and from the bytes of a Kafka record."""

from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from headrace_schemas.envelope import Envelope, Headers
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.events import DeadLetter, JobCancelled, Moderated, Output, Result
from headrace_schemas.job import CancelJob, EvaluationJob, GenerationJob
from headrace_schemas.limits import MAX_EVENT_BYTES, MAX_VALUE_BYTES
from headrace_schemas.reasons import describe
from headrace_schemas.structured import to_binary
from headrace_schemas.topics import INBOUND, Topic

Event = GenerationJob | EvaluationJob | CancelJob | Output | Moderated | Result | JobCancelled | DeadLetter

# CloudEvents `type` of each event. The number is the version of its schema: a breaking change gets a new one.
TYPES: Final[dict[str, type[Event]]] = {
    "headrace.job.generation.v1": GenerationJob,
    "headrace.job.evaluation.v1": EvaluationJob,
    "headrace.job.cancel.v1": CancelJob,
    "headrace.output.v1": Output,
    "headrace.moderated.v1": Moderated,
    "headrace.result.v1": Result,
    "headrace.job.cancelled.v1": JobCancelled,
    "headrace.dead.v1": DeadLetter,
}
_NAMES: Final[dict[type[Event], str]] = {cls: name for name, cls in TYPES.items()}

# Which topic an event belongs to. Ingest refuses an event on a topic that is not its own.
TOPICS: Final[dict[type[Event], Topic]] = {
    GenerationJob: Topic.GENERATION,
    EvaluationJob: Topic.EVALUATION,
    CancelJob: Topic.CANCELLATION,
    Output: Topic.OUTPUTS,
    Moderated: Topic.MODERATED,
    Result: Topic.RESULTS,
    JobCancelled: Topic.RESULTS,
    DeadLetter: Topic.DEAD,
}


def type_of(event: Event) -> str:
    """The CloudEvents type of an event."""
    return _NAMES[type(event)]


def topic_for(event: Event) -> Topic:
    """The topic that an event is published to."""
    return TOPICS[type(event)]


def encode_value(event: Event) -> bytes:
    """The event as JSON. Absent fields are left out."""
    return event.model_dump_json(exclude_none=True).encode()


def encode(event: Event, envelope: Envelope) -> tuple[Headers, bytes]:
    """Headers and value of the record."""
    return envelope.to_headers(), encode_value(event)


def decode(headers: Sequence[tuple[str, bytes | None]], value: bytes | None) -> tuple[Envelope, Event]:
    """Envelope and event of a record in either mode; InvalidRecord says what is wrong with it and where."""
    headers, value = to_binary(headers, value)
    envelope = Envelope.from_headers(headers)
    return envelope, decode_value(envelope.type, value)


def decode_value(event_type: str, value: bytes | None) -> Event:
    """The event in a record's value, checked strictly: no type is guessed from another."""
    cls = TYPES.get(event_type)
    if cls is None:
        raise InvalidRecord(f"ce_type {event_type!r} is unknown; known are {', '.join(TYPES)}")
    if value is None:
        raise InvalidRecord("the record has no value")
    limit = MAX_VALUE_BYTES if TOPICS[cls] in INBOUND else MAX_EVENT_BYTES
    if len(value) > limit:
        raise InvalidRecord(f"the value has {len(value)} bytes, more than the {limit} that are taken")
    try:
        return cls.model_validate_json(value, strict=True)
    except ValidationError as error:
        raise InvalidRecord(describe(error, value)) from error
