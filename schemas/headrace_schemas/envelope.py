"""CloudEvents 1.0, Kafka binary mode: attributes are `ce_` headers, the value is the data as JSON.

Specs: cloudevents/spec v1.0.2 and its Kafka protocol binding; extensions partitioning, distributed-tracing,
correlation and expirytime.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from headrace_schemas.errors import InvalidRecord

Headers = list[tuple[str, bytes]]

_REQUIRED = ("specversion", "id", "source", "type")
_MAX_ATTRIBUTE = 1024  # bytes of one header's value


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

    def to_headers(self) -> Headers:
        """The attributes as Kafka headers, absent ones left out."""
        pairs = [
            ("ce_specversion", "1.0"),
            ("ce_id", self.id),
            ("ce_type", self.type),
            ("ce_source", self.source),
            ("ce_dataschema", schema_id(self.type)),
            ("ce_time", _timestamp(self.time)),
            ("content-type", "application/json"),
        ]
        for name in ("subject", "partitionkey", "traceparent", "correlationid"):
            value = getattr(self, name)
            if value is not None:
                pairs.append((f"ce_{name}", value))
        if self.expirytime is not None:
            pairs.append(("ce_expirytime", _timestamp(self.expirytime)))
        return [(name, value.encode()) for name, value in pairs]

    @classmethod
    def from_headers(cls, headers: Sequence[tuple[str, bytes | None]]) -> "Envelope":
        """Read the attributes; InvalidRecord says which one is missing or wrong. Unknown extensions are passed over."""
        found = {name[3:]: _text(name, value) for name, value in headers if name.startswith("ce_")}
        for name in _REQUIRED:
            if not found.get(name):
                raise InvalidRecord(
                    f"header ce_{name} is missing: records must be CloudEvents 1.0 in Kafka binary mode"
                )
        if found["specversion"] != "1.0":
            raise InvalidRecord(f"ce_specversion is {found['specversion']!r}, and only '1.0' is understood")
        expiry = found.get("expirytime")
        return cls(
            id=found["id"],
            type=found["type"],
            source=found["source"],
            time=_parse_time("ce_time", found["time"]) if "time" in found else datetime.now(UTC),
            subject=found.get("subject"),
            partitionkey=found.get("partitionkey"),
            traceparent=found.get("traceparent"),
            correlationid=found.get("correlationid"),
            expirytime=_parse_time("ce_expirytime", expiry) if expiry else None,
        )


def schema_id(event_type: str) -> str:
    """The URN of the JSON Schema of an event type's data: `dataschema`. It names, and cannot be fetched."""
    return f"urn:headrace:schema:{event_type}"


def _timestamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(name: str, value: bytes | None) -> str:
    if value is None or len(value) > _MAX_ATTRIBUTE:
        raise InvalidRecord(f"header {name} is empty or longer than {_MAX_ATTRIBUTE} bytes")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRecord(f"header {name} is not UTF-8") from error
    if "\x00" in text:
        raise InvalidRecord(f"header {name} contains a NUL")
    return text


def _parse_time(name: str, text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRecord(f"header {name} is {text!r}, which is no RFC 3339 timestamp") from error
    if time.tzinfo is None:
        raise InvalidRecord(f"header {name} is {text!r}, which has no time zone")
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise InvalidRecord(f"header {name} is {text!r}, which lies outside of the years 1 to 9999") from error
