"""JSON Schemas (draft 2020-12) of the events, made from the models and freed of what only pydantic understands."""

from typing import Any, Final

from headrace_schemas.codec import Event
from headrace_schemas.envelope import schema_id

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

# What the models' validators check beyond single fields, as far as JSON Schema can say it.
_RULES: Final[dict[str, dict[str, Any]]] = {
    "GenerationJob": {
        "oneOf": [
            {
                "title": "Prompt",
                "required": ["prompt"],
                "properties": {"prompt": {"type": "string"}, "messages": {"maxItems": 0}},
            },
            {
                "title": "Conversation",
                "required": ["messages"],
                "properties": {"prompt": {"type": "null"}, "messages": {"minItems": 1}},
            },
        ]
    },
    "Score": {
        "oneOf": [
            {
                "title": "Judged",
                "required": ["value"],
                "properties": {"value": {"type": "number"}, "reason": {"type": "null"}},
            },
            {
                "title": "Not judged",
                "required": ["reason"],
                "properties": {"reason": {"type": "string"}, "value": {"type": "null"}},
            },
        ]
    },
}

_OWN_WORDS: Final = frozenset({"title", "discriminator", "properties", "default"})  # the last two are kept by hand


def build_json_schema(event_type: str, cls: type[Event], *, references: str = "#/$defs/") -> dict[str, Any]:
    """The schema of one event's data as it stands in a record's value.

    `references` is where its parts are referred to; AsyncAPI keeps them elsewhere than JSON Schema does.
    """
    raw = cls.model_json_schema(mode="validation", ref_template=references + "{model}")
    parts = {name: _plain(name, part) for name, part in raw.pop("$defs", {}).items()}
    schema = {"$schema": DIALECT, "$id": schema_id(event_type), **_plain(cls.__name__, raw)}
    return {**schema, "$defs": parts} if parts else schema


def _plain(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A model's schema with its title, without titles on fields, and with the rules of its validators."""
    plain: dict[str, Any] = {"title": name, **_strip(schema), **_RULES.get(name, {})}
    if "criterion" in plain.get("properties", {}) and "const" in plain["properties"]["criterion"]:
        # The discriminator has a default in Python only: on the wire it decides what the rest means.
        del plain["properties"]["criterion"]["default"]
        plain["required"] = ["criterion", *plain.get("required", [])]
    return plain


def _strip(node: Any) -> Any:
    """Without pydantic's own titles, OpenAPI's `discriminator`, and defaults of null, which say nothing."""
    if isinstance(node, list):
        return [_strip(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _strip(value) for key, value in node.items() if key not in _OWN_WORDS}
    if node.get("default") is not None:
        kept["default"] = node["default"]
    if "properties" in node:  # its keys are names of fields, `title` may be one of them
        kept["properties"] = {field: _strip(value) for field, value in node["properties"].items()}
    return kept
