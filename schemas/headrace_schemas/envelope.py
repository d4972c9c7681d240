"""CloudEvents 1.0, Kafka binary mode: attributes are `ce_` headers, the value is the data as JSON.

Specs: cloudevents/spec v1.0.2 and its Kafka protocol binding; extensions partitioning, distributed-tracing,
correlation and expirytime.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from headrace_schemas.content_type import JSON, NAME, comes_twice
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.limits import SHA256
from headrace_schemas.times import parse_time

Headers = list[tuple[str, bytes]]

_REQUIRED: Final = ("specversion", "id", "source", "type")
# Attributes that are read of an envelope; others are extensions, and ignored.
ATTRIBUTES: Final = (
    *_REQUIRED, "time", "subject", "partitionkey", "traceparent", "correlationid", "expirytime", "applicationversion",
)  # fmt: skip
_HEADERS: Final = {f"ce_{name}": name for name in ATTRIBUTES}
_MAX_ATTRIBUTE: Final = 1024  # bytes of one header's value

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# RFC 3986, section 4.1. What has a colon before the first slash has a scheme before it.
_CHARACTER = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})"
_URI_REFERENCE = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*:|(?![^/?#]*:))"
    rf"(?://(?:(?!/){_CHARACTER}|[\[\]])*(?![^/?#]))?{_CHARACTER}*(?:\?(?:{_CHARACTER}|\?)*)?(?:#(?:{_CHARACTER}|\?)*)?"
)
# W3C Trace Context, section 3.2: version, trace id, parent id, flags; later versions may say more after them.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_SHA256 = re.compile(SHA256)
_TRACEPARENT_LENGTH: Final = 55  # of version 00


def is_uri_reference(text: str) -> bool:
    """Return True if it is a URI reference that is not empty, as CloudEvents' `source` must be."""
    return bool(text and _URI_REFERENCE.fullmatch(text))


def is_traceparent(text: str) -> bool:
    """Return True if it is a `traceparent` of W3C Trace Context."""
    return bool(_TRACEPARENT.fullmatch(text)) and (len(text) == _TRACEPARENT_LENGTH or not text.startswith("00"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The CloudEvents attributes of one record. `subject` is the job's id wherever one is known.

    `dataschema` follows from the type: it is written, and not looked at in what comes.
    """

    id: str
    type: str
    source: str
    time: datetime
    subject: str | None = None
    partitionkey: str | None = None
    traceparent: str | None = None
    correlationid: str | None = None
    expirytime: datetime | None = None
    applicationversion: str | None = None  # the digest of the version that a gateway resolved

    def to_headers(self) -> Headers:
        """Return the attributes as Kafka headers, absent ones left out."""
        return [(name, value.encode()) for name, value in self.to_text().items()]

    def to_text(self) -> dict[str, str]:
        """Return the headers as text."""
        headers = {
            "ce_specversion": "1.0",
            "ce_id": self.id,
            "ce_type": self.type,
            "ce_source": self.source,
            "ce_dataschema": schema_id(self.type),
            "ce_time": _timestamp(self.time),
            NAME: JSON,
        }
        if self.subject is not None:
            headers["ce_subject"] = self.subject
        if self.partitionkey is not None:
            headers["ce_partitionkey"] = self.partitionkey
        if self.traceparent is not None:
            headers["ce_traceparent"] = self.traceparent
        if self.correlationid is not None:
            headers["ce_correlationid"] = self.correlationid
        if self.expirytime is not None:
            headers["ce_expirytime"] = _timestamp(self.expirytime)
        if self.applicationversion is not None:
            headers["ce_applicationversion"] = self.applicationversion
        return headers

    @classmethod
    def from_headers(cls, headers: Sequence[tuple[str, bytes | None]]) -> "Envelope":
        """Read the attributes; InvalidRecord says which one is missing or wrong. Unknown extensions are passed over."""
        found: dict[str, str] = {}
        for name, value in headers:
            if (attribute := _HEADERS.get(name)) is not None:
                text = _text(name, value)
                if found.setdefault(attribute, text) != text:
                    raise comes_twice(name)
        for attribute in _REQUIRED:
            if attribute not in found:
                raise InvalidRecord(_missing(f"ce_{attribute}", headers))
        if found["specversion"] != "1.0":
            raise InvalidRecord(f"ce_specversion is {found['specversion']!r}, and only '1.0' is understood")
        if not is_uri_reference(found["source"]):
            raise InvalidRecord("ce_source is no URI reference (RFC 3986), such as /shop/orders or urn:example:shop")
        version = found.get("applicationversion")
        if version is not None and not _SHA256.fullmatch(version):
            raise InvalidRecord("ce_applicationversion is no SHA-256 of 64 hexadecimal digits: leave it out")
        traceparent, expiry = found.get("traceparent"), found.get("expirytime")
        if traceparent is not None and not is_traceparent(traceparent):
            raise InvalidRecord("ce_traceparent is not 00-<32 hex>-<16 hex>-<2 hex> in lower case (W3C Trace Context)")
        traceparent = traceparent or _plain_traceparent(headers)
        return cls(
            id=found["id"],
            type=found["type"],
            source=found["source"],
            time=_parse_time("ce_time", found["time"]) if "time" in found else datetime.now(UTC),
            subject=found.get("subject"),
            partitionkey=found.get("partitionkey"),
            traceparent=traceparent,
            correlationid=found.get("correlationid"),
            expirytime=_parse_time("ce_expirytime", expiry) if expiry else None,
            applicationversion=version,
        )


def schema_id(event_type: str) -> str:
    """Return the URN of the JSON Schema of an event type's data: `dataschema`. It names, and cannot be fetched."""
    return f"urn:headrace:schema:{event_type}"


def _plain_traceparent(headers: Sequence[tuple[str, bytes | None]]) -> str | None:
    """Return the trace context that OpenTelemetry adds to records of Kafka clients. It is no part of CloudEvents: a
    wrong value, or two that differ, are no reason to refuse the event.
    """
    found = {value for name, value in headers if name == "traceparent"}
    if len(found) != 1:
        return None
    text = (found.pop() or b"")[: _MAX_ATTRIBUTE + 1].decode("ascii", "replace")
    return text if len(text) <= _MAX_ATTRIBUTE and text.isprintable() and is_traceparent(text) else None


@lru_cache(maxsize=64)  # the events of a group have one time
def _timestamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _missing(name: str, headers: Sequence[tuple[str, bytes | None]]) -> str:
    reason = f"header {name} is missing: records must be CloudEvents 1.0 in Kafka binary mode"
    if other := next((given for given, _ in headers if given.lower() == name), None):
        return f"{reason}; {other} is another name, as Kafka tells capitals from small letters"
    return reason


def _text(name: str, value: bytes | None) -> str:
    if not value:
        raise InvalidRecord(f"header {name} is empty: leave it out where there is nothing to say")
    if len(value) > _MAX_ATTRIBUTE:
        raise InvalidRecord(f"header {name} is longer than {_MAX_ATTRIBUTE} bytes")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRecord(f"header {name} is not UTF-8") from error
    if not text.isprintable() and (control := _CONTROL.search(text)):
        raise InvalidRecord(f"header {name} holds the control character U+{ord(control[0]):04X}")
    return text


def _parse_time(name: str, text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise InvalidRecord(f"header {name} {error}") from error
