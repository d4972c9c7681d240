"""Structured mode, checked against the `cloudevents` package as an independent writer; and the content types."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import to_structured_event
from cloudevents.core.v1.event import CloudEvent

from headrace_schemas import Envelope, GenerationJob, InvalidRecord
from headrace_schemas.codec import decode, encode
from headrace_schemas.structured import to_binary

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
JOB = GenerationJob(model="m", prompt="Grüße, 世界")
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop",
    "type": "headrace.job.generation.v1",
    "data": {"model": "m", "prompt": "Grüße, 世界"},
}
STRUCTURED = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
BINARY = encode(JOB, Envelope(id="1", type=EVENT["type"], source="/shop", time=datetime(2026, 1, 2, tzinfo=UTC)))


def structured(**changes: Any) -> bytes:
    return json.dumps({name: field for name, field in (EVENT | changes).items() if field is not ...}).encode()


def test_a_structured_event_of_others_is_read() -> None:
    attributes = {
        **{name: EVENT[name] for name in ("id", "type", "source")},
        "time": datetime(2026, 1, 2, tzinfo=UTC),
        "subject": "job",
        "datacontenttype": "application/json",
        "traceparent": TRACE,
        "correlationid": "order 7",
    }
    message = to_structured_event(CloudEvent(attributes=attributes, data=EVENT["data"]))
    envelope, event = decode(list(message.headers.items()), message.value)
    assert event == JOB
    expected = {name: item for name, item in attributes.items() if name not in ("datacontenttype", "specversion")}
    assert envelope == Envelope(**expected)


@pytest.mark.parametrize(
    "value",
    [
        structured(),
        structured(data=..., data_base64=base64.b64encode(BINARY[1]).decode()),
        structured(datacontenttype="application/json; charset=utf-8", subject=None, sequence=7, flag=True),
        json.dumps(EVENT, indent="\t").replace("\n", "\r\n").encode(),
    ],
    ids=["json", "base64", "another's extensions and nulls", "CRLF"],
)
def test_the_same_event_in_each_form(value: bytes) -> None:
    """As JSON or in base64, with what is absent left out or null; the data comes out as in binary mode."""
    headers, data = to_binary([*STRUCTURED, ("x-other", b"1")], value)
    assert GenerationJob.model_validate_json(data or b"") == JOB
    assert dict(headers)["x-other"] == b"1"
    assert dict(headers)["content-type"] == b"application/json"
    envelope, event = decode(headers, data)
    assert (envelope.id, envelope.source, envelope.subject, event) == ("1", "/shop", None, JOB)
    assert (envelope.id, event) == (decode([*STRUCTURED, ("x-other", b"1")], value)[0].id, JOB)


def test_attributes_in_headers_are_copies_at_best() -> None:
    headers = [*STRUCTURED, ("ce_id", b"another"), ("ce_subject", b"another"), ("x-other", b"1")]
    envelope, _ = decode(headers, structured(subject="mine"))
    assert (envelope.id, envelope.subject) == ("1", "mine")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no value"),
        (b"", "no CloudEvent in JSON: Expecting value at line 1 column 1"),
        (b'{"specversion": "1.0",\n}', "at line 2 column 1"),
        (b"[]", "JSON object"),
        (b"\xff", "can be read"),
        (b"[" * 100_000, "can be read"),
        (b'{"data": ' + b"9" * 5_000 + b"}", "can be read"),
        (structured(data=...), "no value"),
        (structured(data_base64="eA=="), "one of them"),
        (structured(data=..., data_base64="=x="), "not base64"),
        (structured(data=..., data_base64="e!30="), "not base64"),
        (structured(data=..., data_base64=5), "not base64"),
        (structured(datacontenttype="text/xml"), "content-type is 'text/xml'"),
        (structured(datacontenttype=5), "datacontenttype must be"),
        (structured(datacontenttype="application/cloudevents+json"), "datacontenttype must be"),
        (structured(id=5), "id must be text"),
        (structured(id=...), "ce_id is missing"),
        (structured(id=""), "ce_id is empty"),
        (structured(id="\ud800"), "ce_id is not UTF-8"),
        (structured(source="my shop"), "ce_source is no URI"),
        (structured(traceparent="x"), "ce_traceparent is not"),
        (structured(data={"model": "m", "prompt": 5}), "prompt: must be text"),
        (structured(data={"model": "m", "prompt": "\ud800"}), "prompt: character 1 is half"),
        (structured(data={"model": "m", "prompt": "p", "sampling": {"temperature": float("nan")}}), "finite"),
        (structured(data="text"), "an object, not text"),
    ],
)
def test_a_wrong_structured_event_is_refused(value: bytes | None, reason: str) -> None:
    with pytest.raises(InvalidRecord, match=reason):
        decode(STRUCTURED, value)


@pytest.mark.parametrize(
    "text",
    [
        "application/json",
        "application/json; charset=utf-8",
        'Application/JSON;charset="UTF-8"',
        "application/json ;x=1",
    ],
)
def test_json_with_parameters_is_taken(text: str) -> None:
    """Media types do not tell capitals, and may have parameters (RFC 9110)."""
    headers = [pair for pair in BINARY[0] if pair[0] != "content-type"]
    assert decode([*headers, ("Content-Type", text.encode())], BINARY[1])[1] == JOB


def test_without_a_content_type_it_is_json() -> None:
    assert decode([pair for pair in BINARY[0] if pair[0] != "content-type"], BINARY[1])[1] == JOB


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"text/plain", "content-type is 'text/plain'; it must be application/json, or application/cloudevents.json"),
        (b"application/xml", "content-type is 'application/xml'"),
        (b"application/vnd.shop+json", "content-type is"),
        (b"application/cloudevents+avro", "content-type is 'application/cloudevents.avro'"),
        (b"application/cloudevents-batch+json", "a batch of CloudEvents in one record is not taken"),
        (b"application/json; charset=utf-16", "charset"),
        (b"", "no media type"),
        (None, "no media type"),
        (b"\xff/\n", "no media type"),
    ],
)
def test_another_content_type_is_refused(value: bytes | None, reason: str) -> None:
    headers = [pair for pair in BINARY[0] if pair[0] != "content-type"]
    with pytest.raises(InvalidRecord, match=reason):
        decode([*headers, ("content-type", value)], BINARY[1])


def test_two_content_types_are_refused() -> None:
    with pytest.raises(InvalidRecord, match="content-type comes twice"):
        decode([*BINARY[0], ("Content-Type", STRUCTURED[0][1])], BINARY[1])
