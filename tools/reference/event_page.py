"""The page of all events and topics, from their schemas."""

import json
from functools import cache
from typing import Any, Final

from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import EventType, known_types, types_on
from headrace_schemas.examples import example_envelope, example_of
from headrace_schemas.jsonschema import build_json_schema
from headrace_schemas.topics import INBOUND, Topic
from headrace_workers.core.feature import installed
from tools.reference.markdown_text import (
    beginning,
    code,
    json_block,
    link,
    paragraphs,
    table,
)
from tools.reference.schema_tables import fields, object_section

_INTRODUCTION: Final = """\
Every record is a [CloudEvents 1.0](https://cloudevents.io) event in Kafka's binary mode: the attributes are headers,
and the value is the event's data as JSON. `headrace schema export DIR` writes a JSON Schema of each event and an
AsyncAPI 3 document.

- Consumers must ignore fields that they do not know. headrace refuses unknown fields in the records that you send.
- An event may arrive twice, always with the same `ce_id`.
- The number at the end of a type is the version of its schema. A breaking change gets a new number.
"""
_HEADERS: Final = (
    ("ce_specversion", "required", "`1.0`."),
    ("ce_id", "required", "The event's id. A job without an idempotency key is known by its tenant and this id."),
    ("ce_type", "required", "The event type, one of this page."),
    ("ce_source", "required", "The service that sent the event, a URI reference such as `/shop/orders`."),
    ("ce_time", "", "When the event happened, RFC 3339."),
    ("ce_subject", "", "The job's id. You may leave it out of what you send."),
    ("ce_partitionkey", "", "The record's key: events of one job have the same one, and keep their order."),
    ("ce_traceparent", "", "W3C Trace Context. Every event of a job carries the one that came with the job."),
    ("ce_correlationid", "", "Your own id. Every event of a job carries the one that came with the job."),
    ("ce_expirytime", "", "The deadline of a job, if its data names none."),
    ("ce_applicationversion", "", "The SHA-256 of the application's version that a gateway resolved. Leave it out."),
    ("ce_dataschema", "", "The `$id` of the schema. headrace writes it, and does not read it."),
    ("content-type", "", "`application/json`."),
)


def page() -> str:
    """Return the page of all events, in Markdown."""
    installed()  # the events of features are known from then on
    types = known_types()
    return paragraphs(
        beginning("Events and topics", "the schemas of the events", _INTRODUCTION),
        "## Topics",
        "Each name begins with `HEADRACE_TOPIC_PREFIX`, by default `headrace.`.",
        table(("topic", "written by", "events", "content"), map(_topic, Topic)),
        "## Headers",
        table(("header", "in what you send", "meaning"), ((code(name), *rest) for name, *rest in _HEADERS)),
        "The headers of an example:",
        json_block(example_envelope(types[0].name).to_text()),
        *(_section(row) for row in types),
        "## Parts of events",
        *(object_section(f"### {name}", part) for name, part in sorted(parts_of_events().items())),
    )


@cache
def parts_of_events() -> dict[str, dict[str, Any]]:
    """Return the schemas of the objects that events contain, by their names."""
    found: dict[str, dict[str, Any]] = {}
    for event_type in known_types():
        for name, part in build_json_schema(event_type).get("$defs", {}).items():
            found.setdefault(name, part)
    return found


def _topic(topic: Topic) -> tuple[str, str, str, str]:
    named = ", ".join(link(row.name) for row in types_on(topic))
    return code(topic.named()), "you" if topic in INBOUND else "headrace", named, topic.description


def _section(event_type: EventType) -> str:
    schema = build_json_schema(event_type)
    return paragraphs(
        f"## {event_type.name}",
        str(schema.get("description", "")),
        f"Topic: {code(event_type.topic.named())}.",
        fields(schema),
        json_block(json.loads(encode_value(example_of(event_type)))),
    )
