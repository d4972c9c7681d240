"""The envelope, checked against the `cloudevents` package as an independent reader and writer."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event, to_binary_event
from cloudevents.core.v1.event import CloudEvent

from headrace_schemas import Envelope, GenerationJob, InvalidRecord
from headrace_schemas.codec import decode, encode
from headrace_schemas.envelope import is_traceparent, is_uri_reference

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
    message = to_binary_event(CloudEvent(attributes={"type": FULL.type, "source": "/x", "id": "1"}, data={}))
    headers = [pair for pair in message.headers.items() if pair[0] != "ce_time"]
    before = datetime.now(UTC)
    assert before <= Envelope.from_headers(headers).time <= datetime.now(UTC)


def test_unknown_extensions_are_passed_over() -> None:
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
        (("ce_time", b"2026-01-02T03:04:05"), "with a zone"),
        (("ce_expirytime", b"0001-01-01T00:00:00+14:00"), "years"),
        (("ce_subject", b"\xff"), "not UTF-8"),
        (("ce_subject", b"a\x00b"), r"U\+0000"),
        (("ce_subject", b"x" * 1025), "longer than 1024"),
        (("ce_subject", b""), "ce_subject is empty"),
        (("ce_correlationid", b"a\r\nb"), r"ce_correlationid .* U\+000D"),
        (("ce_time", b"20260102T030405Z"), "ce_time must be an RFC 3339"),
        (("ce_id", b"2"), "ce_id comes twice"),
        (("ce_subject", None), "ce_subject"),
    ],
)
def test_a_wrong_header_is_refused(header: tuple[str, bytes | None], reason: str) -> None:
    with pytest.raises(InvalidRecord, match=reason):
        Envelope.from_headers([*REQUIRED, header])


def test_a_header_may_come_twice_with_one_value() -> None:
    assert Envelope.from_headers([*REQUIRED, *REQUIRED]).id == "1"


def test_headers_at_the_bound_and_in_any_number_are_read() -> None:
    many = [(f"x-{number}", b"v" * 100) for number in range(10_000)]
    headers = [*many, *REQUIRED, ("ce_subject", "ü".encode() * 512), ("ce_dataref", b"h" * 5_000), ("ce_flag", b"\xff")]
    assert Envelope.from_headers(headers).subject == "ü" * 512


def test_a_name_in_capitals_is_told() -> None:
    headers = [("CE_ID" if name == "ce_id" else name, value) for name, value in REQUIRED]
    with pytest.raises(InvalidRecord, match=r"ce_id is missing.*CE_ID is another name"):
        Envelope.from_headers(headers)


@pytest.mark.parametrize(
    "text",
    ["/shop", "shop", "urn:example:shop", "https://example.com:8080/a?b=c&d#e", "//host/x", "#part", "?q=1?2", ".",
     "mailto:a@b.example", "/a%20b", "https://[::1]:80/x", "tag:example.com,2026:x", "a/b:c", "/a//b"],
)  # fmt: skip
def test_a_uri_reference(text: str) -> None:
    """What RFC 3986 calls a URI reference, absolute or relative."""
    assert is_uri_reference(text)


@pytest.mark.parametrize("text", ["", "my shop", "/größe", "a%2", "1a:b", "<x>", "a#b#c", "/a[1]", "a\\b", "{x}", ":a"])
def test_no_uri_reference(text: str) -> None:
    assert not is_uri_reference(text)
    with pytest.raises(InvalidRecord, match="ce_source"):
        Envelope.from_headers([pair for pair in REQUIRED if pair[0] != "ce_source"] + [("ce_source", text.encode())])


@pytest.mark.parametrize("text", [TRACE, TRACE[:-2] + "ff", "01" + TRACE[2:], "cc" + TRACE[2:] + "-more-of-it"])
def test_a_traceparent(text: str) -> None:
    """Version 00 as it is, and later ones with what they may add."""
    assert Envelope.from_headers([*REQUIRED, ("ce_traceparent", text.encode())]).traceparent == text


@pytest.mark.parametrize(
    "text",
    [
        "none",
        TRACE.upper(),
        TRACE[:-1],
        TRACE + "0",
        TRACE + "-more",
        "ff" + TRACE[2:],
        "01" + TRACE[2:] + "0",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        f"{TRACE} ",
    ],
)
def test_no_traceparent(text: str) -> None:
    """Another length or case, ids of zeros alone, the version that may not be, and more behind version 00."""
    assert not is_traceparent(text)
    with pytest.raises(InvalidRecord, match="ce_traceparent is not 00-"):
        Envelope.from_headers([*REQUIRED, ("ce_traceparent", text.encode())])


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ([("traceparent", TRACE.encode())], TRACE),
        ([("traceparent", TRACE.encode()), ("traceparent", TRACE.encode())], TRACE),
        ([("ce_traceparent", TRACE.encode()), ("traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-00")], TRACE),
        ([("traceparent", b"?")], None),
        ([("traceparent", b"")], None),
        ([("traceparent", None)], None),
        ([("traceparent", b"\xff\x00")], None),
        ([("traceparent", TRACE.encode() + b"\n")], None),
        ([("traceparent", b"01" + TRACE.encode()[2:] + b"-" + b"x" * 2_000)], None),
        ([("traceparent", TRACE.encode()), ("traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-00")], None),
        ([("Traceparent", TRACE.encode())], None),
    ],
)
def test_a_traceparent_of_opentelemetry(headers: list[tuple[str, bytes]], taken: str | None) -> None:
    assert Envelope.from_headers([*REQUIRED, *headers]).traceparent == taken
