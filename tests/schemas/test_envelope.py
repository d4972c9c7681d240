"""The envelope, checked against the `cloudevents` package as an independent reader and writer."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event, to_binary_event
from cloudevents.core.v1.event import CloudEvent

from headrace_schemas import Envelope, GenerationJob, InvalidRecord
from headrace_schemas.codec import decode, encode

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
JOB = GenerationJob(model="m", prompt="Grüße, 世界")
FULL = Envelope(
    id="e-1",
    type="headrace.job.generation.v1",
    source="/shop",
    time=datetime(2026, 1, 2, 3, 4, 5, 678000, UTC),
    subject="6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11",
    partitionkey="key-ü",
    traceparent=TRACE,
    correlationid="order 7",
    expirytime=datetime(2026, 2, 1, tzinfo=UTC),
)
REQUIRED = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"/test"),
    ("ce_type", b"headrace.job.generation.v1"),
]


def test_others_read_ours() -> None:
    """The cloudevents package reads our record: each attribute, each extension, and the data."""
    headers, value = encode(JOB, FULL)
    event = from_binary_event(KafkaMessage(headers=dict(headers), key=b"key-\xc3\xbc", value=value))
    assert (event.get_id(), event.get_type(), event.get_source()) == (FULL.id, FULL.type, FULL.source)
    assert (event.get_time(), event.get_subject()) == (FULL.time, FULL.subject)
    assert event.get_specversion() == "1.0"
    assert event.get_datacontenttype() == "application/json"
    assert event.get_extension("partitionkey") == "key-ü"
    assert event.get_extension("traceparent") == TRACE
    assert event.get_extension("correlationid") == "order 7"
    assert event.get_extension("expirytime") == "2026-02-01T00:00:00.000Z"
    assert event.get_data() == json.loads(value)


def test_we_read_others() -> None:
    """A record written by the cloudevents package is read by us: each attribute, each extension, and the data."""
    attributes = {
        "id": FULL.id,
        "type": FULL.type,
        "source": FULL.source,
        "time": FULL.time,
        "subject": FULL.subject,
        "datacontenttype": "application/json",
        "partitionkey": FULL.partitionkey,
        "traceparent": TRACE,
        "correlationid": "order 7",
        "expirytime": "2026-02-01T00:00:00Z",
    }
    event = CloudEvent(attributes=attributes, data={"model": "m", "prompt": "Grüße, 世界"})
    message = to_binary_event(event)
    assert decode(list(message.headers.items()), message.value) == (FULL, JOB)


def test_the_least_envelope_of_others_is_read() -> None:
    """Only what CloudEvents requires need be there; a record without a time happened now."""
    message = to_binary_event(CloudEvent(attributes={"type": FULL.type, "source": "/x", "id": "1"}, data={}))
    headers = [pair for pair in message.headers.items() if pair[0] != "ce_time"]
    before = datetime.now(UTC)
    assert before <= Envelope.from_headers(headers).time <= datetime.now(UTC)


def test_unknown_extensions_are_passed_over() -> None:
    """Another's extension attribute and headers that are no CloudEvents attribute do not disturb."""
    assert Envelope.from_headers([*REQUIRED, ("ce_rocket", b"9"), ("x-other", b"\xff")]).id == "1"


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.123456789Z", datetime(2026, 1, 2, 3, 4, 5, 123456, UTC)),
        ("2026-01-02T03:04:05+05:30", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5, minutes=30)))),
    ],
)
def test_times_of_other_languages_are_read(text: str, time: datetime) -> None:
    """RFC 3339 with Z, with nanoseconds (Go) and with an offset is understood."""
    assert Envelope.from_headers([*REQUIRED, ("ce_time", text.encode())]).time == time


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (("ce_time", b"yesterday"), "ce_time"),
        (("ce_time", b"2026-01-02T03:04:05"), "no time zone"),
        (("ce_expirytime", b"0001-01-01T00:00:00+14:00"), "years"),
        (("ce_subject", b"\xff"), "not UTF-8"),
        (("ce_subject", b"a\x00b"), "NUL"),
        (("ce_subject", b"x" * 1025), "longer"),
        (("ce_subject", None), "ce_subject"),
    ],
)
def test_a_wrong_header_is_refused(header: tuple[str, bytes | None], reason: str) -> None:
    """An attribute that is not what the spec says is refused, and the reason names it."""
    with pytest.raises(InvalidRecord, match=reason):
        Envelope.from_headers([*REQUIRED, header])
