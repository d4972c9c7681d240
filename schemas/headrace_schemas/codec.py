"""The codec: an event and its envelope, to and from the bytes of a Kafka record."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from headrace_schemas.application import FROM_LEDGER
from headrace_schemas.envelope import Envelope, Headers
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.event_types import Event, job_type, known_types, type_named
from headrace_schemas.events import JobEvent
from headrace_schemas.job import AnyJob, GenerationJob
from headrace_schemas.limits import MAX_EVENT_BYTES, MAX_VALUE_BYTES
from headrace_schemas.reasons import describe
from headrace_schemas.structured import to_binary
from headrace_schemas.topics import INBOUND


def encode_value(event: Event | JobEvent) -> bytes:
    """Return the event as JSON. Absent fields are left out."""
    return event.model_dump_json(exclude_none=True).encode()


def encode_given(event: Event | JobEvent) -> bytes:
    """Return the event as JSON. Of a generation job's fields only the given ones: an application decides the others."""
    if not isinstance(event, GenerationJob):
        return encode_value(event)
    left_out: dict[str, Any] = dict.fromkeys(type(event).model_fields.keys() - event.model_fields_set, True)
    if "sampling" not in left_out:
        left_out["sampling"] = type(event.sampling).model_fields.keys() - event.sampling.model_fields_set
    return event.model_dump_json(exclude_none=True, exclude=left_out).encode()


def check_size(value: bytes) -> None:
    """Raise InvalidRecord where a job's value has more bytes than a record may have."""
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidRecord(
            f"the job has {len(value):,} bytes as JSON, more than the {MAX_VALUE_BYTES:,} that are taken"
        )


def encode(event: Event | JobEvent, envelope: Envelope, *, given: bool = False) -> tuple[Headers, bytes]:
    """Return the headers and the value of the record; with `given`, a job's fields that were given alone."""
    return envelope.to_headers(), encode_given(event) if given else encode_value(event)


def decode(headers: Sequence[tuple[str, bytes | None]], value: bytes | None) -> tuple[Envelope, Event]:
    """Return envelope and event of a record in either mode. Raise InvalidRecord, which says what is wrong with it and
    where.
    """
    headers, value = to_binary(headers, value)
    envelope = Envelope.from_headers(headers)
    return envelope, decode_value(envelope.type, value)


def decode_job(kind: str, value: bytes) -> AnyJob:
    """Return the job of this kind in a record's value; InvalidRecord when there is none that this version can read."""
    found = job_type(kind)
    if found is None:
        raise InvalidRecord(f"{kind!r} is no kind of job that this version knows")
    return decode_value(found.name, value, FROM_LEDGER)  # type: ignore[return-value]


def decode_value(event_type: str, value: bytes | None, context: str | None = None) -> Event:
    """Return the event in a record's value, checked strictly: no type is guessed from another.

    `context` is FROM_LEDGER for a job that headrace resolved and wrote.
    """
    found = type_named(event_type)
    if found is None:
        known = ", ".join(row.name for row in known_types())
        raise InvalidRecord(f"ce_type {event_type!r} is unknown; known are {known}")
    if value is None:
        raise InvalidRecord("the record has no value")
    limit = MAX_VALUE_BYTES if found.topic in INBOUND else MAX_EVENT_BYTES
    if len(value) > limit:
        raise InvalidRecord(f"the value has {len(value)} bytes, more than the {limit} that are taken")
    try:
        return found.cls.model_validate_json(value, strict=True, context=context)  # type: ignore[return-value]  # or one of a feature
    except ValidationError as error:
        raise InvalidRecord(describe(error, value)) from error
