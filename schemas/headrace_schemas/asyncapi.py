"""The AsyncAPI 3.0 document: topics, the events on them, their headers, and what a client does with them."""

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from headrace_schemas import times
from headrace_schemas.codec import encode
from headrace_schemas.content_type import JSON, NAME
from headrace_schemas.envelope import schema_id
from headrace_schemas.event_types import EventType, known_types, types_on
from headrace_schemas.examples import example_envelope, example_of
from headrace_schemas.job import JOB_NAMESPACE
from headrace_schemas.jsonschema import build_json_schema
from headrace_schemas.limits import SHA256
from headrace_schemas.topics import INBOUND, Topic

_DESCRIPTION: Final = (
    "Send a job to one of the `jobs` topics; its answer, moderated, judged and accounted for, comes back on `results`, "
    "or the reason why there is none on `dead`. Every record is a CloudEvent 1.0 in Kafka binary mode: attributes are "
    "headers with the prefix `ce_`, and the value is the data as JSON. (Jobs in structured mode are taken too.) Key "
    "each record by the job's id: the UUIDv5 of tenant, line feed and idempotency key (where there is none, the "
    f"event's id) in the namespace {JOB_NAMESPACE}. An event may arrive more than once, always with the same `ce_id`."
)
_KEY: Final = {
    "type": "string",
    "format": "uuid",
    "description": "The job's id, so that all that concerns one job comes in order. Any partitioner will do.",
}
_KEYS: Final = {
    Topic.POLICIES: {"type": "string", "description": "The same for all, so that they come in order."},
    Topic.MODELS: {"type": "string", "description": "The model's alias, so that all that concerns it comes in order."},
    Topic.BUDGETS: {"type": "string", "description": "The tenant, so that all about its budgets comes in order."},
    Topic.APPLICATIONS: {
        "type": "string",
        "description": "TENANT/APPLICATION, or /APPLICATION for one that all tenants share: its moves come in order.",
    },
}
_EXTENSIONS: Final[dict[str, dict[str, Any]]] = {
    "ce_time": {
        "type": "string",
        "format": "date-time",
        "pattern": times.PATTERN,
        "description": "When the event happened (RFC 3339).",
    },
    "ce_subject": {"type": "string", "minLength": 1, "description": "The job's id, wherever one is known."},
    "ce_partitionkey": {"type": "string", "minLength": 1, "description": "The record's key."},
    "ce_traceparent": {
        "type": "string",
        "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$",
        "description": "W3C Trace Context of the producer; handed through to every event of the job.",
    },
    "traceparent": {
        "type": "string",
        "description": "The same as OpenTelemetry writes it: it counts where there is no ce_traceparent. "
        "A malformed one is passed over.",
    },
    "ce_correlationid": {
        "type": "string",
        "minLength": 1,
        "description": "A name of the producer's own; handed through to every event of the job.",
    },
    "ce_expirytime": {
        "type": "string",
        "format": "date-time",
        "pattern": times.PATTERN,
        "description": "The job's deadline, as `deadline` in the job itself; the earlier of the two holds.",
    },
    "ce_applicationversion": {
        "type": "string",
        "pattern": SHA256,
        "description": "The SHA-256 of the application's version that a gateway resolved. Leave it out.",
    },
}
_CORRELATION: Final = {
    "description": "Give a job one, and each of its events carries it.",
    "location": "$message.header#/ce_correlationid",
}
_SERVERS: Final[dict[str, dict[str, Any]]] = {
    "local": {
        "host": "localhost:{port}",
        "protocol": "kafka",
        "description": "docker compose on this machine. `headrace up` takes a free port and prints it.",
        "variables": {"port": {"default": "9092"}},
    },
    "production": {
        "host": "{bootstrap}",
        "protocol": "kafka-secure",
        "description": "Your own cluster.",
        "variables": {"bootstrap": {"default": "kafka.example.com:9093", "description": "host:port of its brokers"}},
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in ("plain", "scram256", "scram512")],
    },
}
_SECURITY: Final = {
    "plain": {"type": "plain"},
    "scram256": {"type": "scramSha256"},
    "scram512": {"type": "scramSha512"},
}


def build_asyncapi() -> dict[str, Any]:
    """Return the document, self-contained, for topics with the default prefix."""
    schemas: dict[str, Any] = {}
    for event_type in known_types():
        schemas |= _schemas(event_type)
    return {
        "asyncapi": "3.0.0",
        "id": "urn:headrace:asyncapi",
        "info": {
            "title": "headrace",
            "version": _version(),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": JSON,
        "servers": _SERVERS,
        "channels": {channel_name(topic): _channel(topic) for topic in Topic},
        "operations": {_operation_name(topic): _operation(topic) for topic in Topic},
        "components": {
            "messages": {_title(event_type): _message(event_type) for event_type in known_types()},
            "schemas": schemas,
            "securitySchemes": _SECURITY,
        },
    }


def channel_name(topic: Topic) -> str:
    """Return the channel's name in the document: the topic with underscores, as generated code can have it."""
    return topic.value.replace(".", "_")


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.named(),
        "description": topic.description,
        "messages": {title: {"$ref": f"#/components/messages/{title}"} for title in map(_title, types_on(topic))},
    }


def _operation_name(topic: Topic) -> str:
    verb = "send" if topic in INBOUND else "receive"
    return f"{verb}_{channel_name(topic)}"


def _operation(topic: Topic) -> dict[str, Any]:
    """Return the operation of a client of headrace on a topic: it sends jobs, and receives all else."""
    channel = f"#/channels/{channel_name(topic)}"
    return {
        "action": "send" if topic in INBOUND else "receive",
        "channel": {"$ref": channel},
        "summary": topic.description,
        "messages": [{"$ref": f"{channel}/messages/{_title(event_type)}"} for event_type in types_on(topic)],
    }


def _title(event_type: EventType) -> str:
    return event_type.cls.__name__


def _message(event_type: EventType) -> dict[str, Any]:
    of_job = event_type.topic not in _KEYS
    return {
        "name": event_type.name,
        "title": _title(event_type),
        "summary": event_type.description,
        "contentType": JSON,
        "headers": _headers(event_type.name),
        "payload": {"$ref": f"#/components/schemas/{_title(event_type)}"},
        **({"correlationId": _CORRELATION} if of_job else {}),
        "bindings": {"kafka": {"key": _KEYS.get(event_type.topic, _KEY), "bindingVersion": "0.5.0"}},
        "examples": [_example(event_type)],
    }


def _example(event_type: EventType) -> dict[str, Any]:
    headers, value = encode(example_of(event_type), example_envelope(event_type.name))
    return {"headers": {name: text.decode() for name, text in headers}, "payload": json.loads(value)}


def _headers(event_type: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["ce_specversion", "ce_id", "ce_type", "ce_source"],
        "properties": {
            "ce_specversion": {"type": "string", "const": "1.0"},
            "ce_id": {
                "type": "string",
                "minLength": 1,
                "description": "The event's id, the same each time it is sent.",
            },
            "ce_type": {"type": "string", "const": event_type},
            "ce_source": {"type": "string", "minLength": 1, "format": "uri-reference", "description": "The sender."},
            "ce_dataschema": {
                "type": "string",
                "format": "uri",
                "description": f"The `$id` of the JSON Schema of the value: {schema_id(event_type)}.",
            },
            NAME: {"type": "string", "const": JSON, "description": "Where it is left out, this is meant."},
            **_EXTENSIONS,
        },
    }


def _schemas(event_type: EventType) -> dict[str, Any]:
    """Return the event's schema and its parts, each under its own name, as AsyncAPI's schema format has them."""
    schema = build_json_schema(event_type, references="#/components/schemas/")
    parts: dict[str, Any] = schema.pop("$defs", {})
    del schema["$schema"], schema["$id"], schema["examples"]  # the message has it
    return {**parts, _title(event_type): schema}


def _version() -> str:
    try:
        return version("headrace")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0"
