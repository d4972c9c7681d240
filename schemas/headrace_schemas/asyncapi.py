"""The AsyncAPI 3.0 document: topics, the events on them, their headers, and what a client does with them."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from headrace_schemas.codec import TOPICS, TYPES, Event
from headrace_schemas.envelope import schema_id
from headrace_schemas.job import JOB_NAMESPACE
from headrace_schemas.jsonschema import build_json_schema
from headrace_schemas.topics import INBOUND, Topic

CONTENT_TYPE: Final = "application/json"

_DESCRIPTION: Final = (
    "Send a job to one of the `jobs` topics; its answer, moderated, judged and accounted for, comes back on `results`, "
    "or the reason why there is none on `dead`. Every record is a CloudEvent 1.0 in Kafka binary mode: attributes are "
    "headers with the prefix `ce_`, and the value is the data as JSON. Key each record by the job's id: the UUIDv5 of "
    "tenant, line feed and idempotency key (where there is none, the event's id) in the namespace "
    f"{JOB_NAMESPACE}. An event may arrive more than once, always with the same `ce_id`."
)
_TOPIC_DESCRIPTIONS: Final[dict[Topic, str]] = {
    Topic.GENERATION: "Jobs that ask a model for an answer.",
    Topic.EVALUATION: "Jobs that ask the judge about an output made elsewhere.",
    Topic.CANCELLATION: "Wishes to cancel a job.",
    Topic.OUTPUTS: "What models wrote, before moderation. Not for showing.",
    Topic.MODERATED: "Outputs after moderation.",
    Topic.RESULTS: "The ends of jobs that were answered or cancelled.",
    Topic.DEAD: "What could not be done, and why.",
}
_EXTENSIONS: Final[dict[str, dict[str, Any]]] = {
    "ce_time": {"type": "string", "format": "date-time", "description": "When the event happened (RFC 3339)."},
    "ce_subject": {"type": "string", "description": "The job's id, wherever one is known."},
    "ce_partitionkey": {"type": "string", "description": "The record's key."},
    "ce_traceparent": {"type": "string", "description": "W3C Trace Context of the producer."},
    "ce_correlationid": {"type": "string", "description": "A name of the producer's own, handed through."},
    "ce_expirytime": {"type": "string", "format": "date-time", "description": "After this the event is of no use."},
}


def build_asyncapi() -> dict[str, Any]:
    """The document, self-contained, for topics with the default prefix."""
    schemas: dict[str, Any] = {}
    for event_type, cls in TYPES.items():
        schemas |= _schemas(event_type, cls)
    return {
        "asyncapi": "3.0.0",
        "id": "urn:headrace:asyncapi",
        "info": {
            "title": "headrace",
            "version": _version(),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {channel_name(topic): _channel(topic) for topic in Topic},
        "operations": {_operation_name(topic): _operation(topic) for topic in Topic},
        "components": {
            "messages": {cls.__name__: _message(event_type, cls) for event_type, cls in TYPES.items()},
            "schemas": schemas,
        },
    }


def channel_name(topic: Topic) -> str:
    """The channel's name in the document: the topic with underscores, as generated code can have it."""
    return topic.value.replace(".", "_")


def _events(topic: Topic) -> list[type[Event]]:
    return [cls for cls, home in TOPICS.items() if home is topic]


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.named(),
        "description": _TOPIC_DESCRIPTIONS[topic],
        "messages": {cls.__name__: {"$ref": f"#/components/messages/{cls.__name__}"} for cls in _events(topic)},
    }


def _operation_name(topic: Topic) -> str:
    verb = "send" if topic in INBOUND else "receive"
    return f"{verb}_{channel_name(topic)}"


def _operation(topic: Topic) -> dict[str, Any]:
    """What a client of headrace does with a topic: it sends jobs, and receives all else."""
    channel = f"#/channels/{channel_name(topic)}"
    return {
        "action": "send" if topic in INBOUND else "receive",
        "channel": {"$ref": channel},
        "summary": _TOPIC_DESCRIPTIONS[topic],
        "messages": [{"$ref": f"{channel}/messages/{cls.__name__}"} for cls in _events(topic)],
    }


def _message(event_type: str, cls: type[Event]) -> dict[str, Any]:
    return {
        "name": event_type,
        "title": cls.__name__,
        "summary": (cls.__doc__ or "").strip().splitlines()[0],
        "contentType": CONTENT_TYPE,
        "headers": _headers(event_type),
        "payload": {"$ref": f"#/components/schemas/{cls.__name__}"},
    }


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
            "ce_source": {"type": "string", "minLength": 1, "description": "Who sent it, as a URI reference."},
            "ce_dataschema": {
                "type": "string",
                "format": "uri",
                "description": f"The `$id` of the JSON Schema of the value: {schema_id(event_type)}.",
            },
            "content-type": {"type": "string", "const": CONTENT_TYPE},
            **_EXTENSIONS,
        },
    }


def _schemas(event_type: str, cls: type[Event]) -> dict[str, Any]:
    """The event's schema and its parts, each under its own name, as AsyncAPI's schema format has them."""
    schema = build_json_schema(event_type, cls, references="#/components/schemas/")
    parts: dict[str, Any] = schema.pop("$defs", {})
    del schema["$schema"], schema["$id"]
    return {**parts, cls.__name__: schema}


def _version() -> str:
    try:
        return version("headrace")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0"
