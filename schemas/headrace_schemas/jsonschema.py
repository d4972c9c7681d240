"""JSON Schemas (draft 2020-12) of the events, made from the models and freed of what only pydantic understands."""

import json
from typing import Any, Final

from headrace_schemas.codec import encode_value
from headrace_schemas.envelope import schema_id
from headrace_schemas.event_types import EventType
from headrace_schemas.examples import example_of

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_NULL: Final = {"type": "null"}
_TEXT: Final = {"type": "string"}
_EMPTY: Final = {"type": "array", "maxItems": 0}


def _when(title: str, *required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "type": "object", "required": list(required), "properties": properties}


def _action(*actions: str) -> dict[str, Any]:
    return {"type": "object", "required": ["action"], "properties": {"action": {"enum": list(actions)}}}


_WRITTEN: Final = {"type": "object", "required": ["text"], "properties": {"text": _TEXT}}
_WITHHELD: Final = {"type": "object", "properties": {"text": _NULL}}

# Checks of the models' validators beyond single fields, as far as JSON Schema can say them. It cannot that `max_words`
# is not below `min_words`, which of the criteria a doubt or a floor may be about, which values of a list differ, and
# what a JSON Schema may be: the descriptions do.
_RULES: Final[dict[str, dict[str, Any]]] = {
    "GenerationJob": {
        "allOf": [
            {
                "oneOf": [
                    _when("Prompt", "prompt", prompt=_TEXT, messages=_EMPTY),
                    _when("Conversation", "messages", prompt=_NULL, messages={"type": "array", "minItems": 1}),
                    {
                        **_when("Messages of the application alone", prompt=_NULL, messages=_EMPTY),
                        "anyOf": [
                            _when("By its name", "application", application=_TEXT),
                            _when("By its variables", "variables", variables={"type": "object", "minProperties": 1}),
                        ],
                    },
                ]
            },
            {
                "oneOf": [
                    _when("Model, or an application by a model's name", "model", model=_TEXT, application=_NULL),
                    _when(
                        "Chain",
                        "model",
                        model={"type": "array"},
                        application=_NULL,
                        variables={"type": "object", "maxProperties": 0},
                    ),
                    _when("Application", "application", application=_TEXT, model=_NULL),
                ]
            },
        ],
        "if": {
            "anyOf": [
                {"required": [name], "properties": {name: {"not": _NULL}}}
                for name in ("knowledge_filter", "without_passages")
            ]
        },
        "then": {"required": ["knowledge"], "properties": {"knowledge": _TEXT}},
    },
    "DecisionJob": {
        "oneOf": [
            _when("Text", "input", input=_TEXT, messages=_EMPTY),
            _when("Conversation", "messages", input=_NULL, messages={"type": "array", "minItems": 1}),
        ]
    },
    "Callback": {
        "oneOf": [
            _when("To a URL", "url", url=_TEXT, endpoint=_NULL),
            _when("To an endpoint", "endpoint", url=_NULL, endpoint=_TEXT),
            _when("About a response", "response", url=_NULL, endpoint=_NULL, response={"const": True}),
        ]
    },
    "Score": {
        "oneOf": [
            _when("Judged", "value", value={"type": "number"}, not_judged=_NULL, reason=_NULL),
            _when("Not judged", "not_judged", "reason", not_judged=_TEXT, reason=_TEXT, value=_NULL),
        ]
    },
    "Review": {
        "allOf": [
            {
                "oneOf": [
                    _when("Of a criterion", "criterion", criterion=_TEXT, category=_NULL),
                    _when("Of a category", "category", criterion=_NULL, category=_TEXT),
                ]
            },
            {
                "oneOf": [
                    _when("Yes or no", "label", label={"type": "boolean"}, score=_NULL),
                    _when("By degrees", "score", label=_NULL, score={"type": "number"}),
                ]
            },
        ]
    },
    "Output": {"allOf": [_when("Written", "answer", answer=_WRITTEN)]},
    "Moderated": {
        "oneOf": [
            _when("Passed", "answer", answer=_WRITTEN, moderation=_action("allow", "redact")),
            _when("Blocked", "answer", answer=_WITHHELD, moderation=_action("block")),
        ]
    },
}

_OWN_WORDS: Final = frozenset({"title", "discriminator", "properties", "default"})  # the last two are kept by hand


def build_json_schema(event_type: EventType, *, references: str = "#/$defs/") -> dict[str, Any]:
    """Return the schema of one event's data as it stands in a record's value.

    `references` is where its parts are referred to; AsyncAPI keeps them elsewhere than JSON Schema does.
    """
    cls = event_type.cls
    raw = cls.model_json_schema(mode="validation", ref_template=references + "{model}")
    parts = {name: _plain(name, part) for name, part in raw.pop("$defs", {}).items()}
    schema = {
        "$schema": DIALECT,
        "$id": schema_id(event_type.name),
        **_plain(cls.__name__, raw),
        "examples": [json.loads(encode_value(example_of(event_type)))],
    }
    return {**schema, "$defs": parts} if parts else schema


def _plain(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a model's schema with its title, without titles on fields, and with the rules of its validators."""
    plain: dict[str, Any] = {"title": name, **_strip(schema), **_RULES.get(name, {})}
    for field, known in plain.get("properties", {}).items():
        if "const" in known and known.pop("default", None):
            # A discriminator has a default in Python only: on the wire it decides what the rest means.
            plain["required"] = [field, *plain.get("required", [])]
    return plain


def _strip(node: Any) -> Any:
    """Return the schema without pydantic's own titles, OpenAPI's `discriminator`, and defaults of null, which say
    nothing.
    """
    if isinstance(node, list):
        return [_strip(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _strip(value) for key, value in node.items() if key not in _OWN_WORDS}
    if node.get("default") is not None:
        kept["default"] = node["default"]
    if "patternProperties" in node:  # the pattern is of every key, and not of those alone that have such a value
        [(pattern, value)] = kept.pop("patternProperties").items()
        kept |= {"additionalProperties": value, "propertyNames": {"pattern": pattern, **kept.get("propertyNames", {})}}
    if "properties" in node:  # its keys are names of fields, `title` may be one of them
        kept["properties"] = {field: _strip(value) for field, value in node["properties"].items()}
    return kept
