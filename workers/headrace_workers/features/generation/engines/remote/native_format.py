"""A format in the words of a provider, as far as the provider takes it. Pure.

Each provider takes a subset of JSON Schema. A schema is weakened to it: keywords that only restrict a value are left
out, and objects are closed. The prompt names the whole schema, and the answer is checked by it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from headrace_schemas.output_format import (
    ChoiceFormat,
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    OutputFormat,
    RegexFormat,
)
from headrace_workers.features.generation.models.catalogue import RemoteModel

_KEPT: Final = frozenset({"$ref", "const", "description", "enum", "title", "type"})
_RESTRICT: Final = frozenset(
    {
        "$comment", "$id", "$schema", "contains", "default", "dependencies", "dependentRequired", "dependentSchemas",
        "deprecated", "else", "examples", "exclusiveMaximum", "exclusiveMinimum", "format", "id", "if", "maxContains",
        "maxItems", "maxLength", "maxProperties", "maximum", "minContains", "minItems", "minLength", "minProperties",
        "minimum", "multipleOf", "not", "pattern", "propertyNames", "readOnly", "then", "uniqueItems", "writeOnly",
    }
)  # fmt: skip
_DEEPEST: Final = 10  # levels that OpenAI takes, and we try for others
_MOST_PROPERTIES: Final = 5_000
_MOST_VALUES: Final = 1_000  # of all enums
_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")


class _Beyond(ValueError):
    """A schema that cannot be weakened to the subset."""


def openai_body(output: OutputFormat | None, model: RemoteModel) -> dict[str, Any]:
    """Return the parameters that ask an OpenAI-compatible endpoint for a format; none where it takes no such."""
    if output is None or output.type not in model.formats:
        return {}
    match output:
        case JsonObjectFormat():
            return {"response_format": {"type": "json_object"}}
        case ChoiceFormat(choices=choices):
            return _structured(choice=list(choices))
        case RegexFormat(pattern=pattern):
            return _structured(regex=pattern)
        case GrammarFormat(grammar=grammar):
            return _structured(grammar=grammar)
    schema, strict = output.json_schema, False
    if model.provider == "openai" and (weaker := openai_schema(schema)) is not None:
        schema, strict = weaker, True
    named = {"name": _name(output), "schema": schema, "strict": strict}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def anthropic_body(output: OutputFormat | None, model: RemoteModel) -> dict[str, Any]:
    """Return the parameters that ask Anthropic for a format; none where it takes no such."""
    if not isinstance(output, JsonSchemaFormat) or output.type not in model.formats:
        return {}
    schema = anthropic_schema(output.json_schema)
    return {} if schema is None else {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def openai_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a schema weakened to OpenAI's strict subset, in which an object has all of its properties; None where that
    cannot be.
    """
    found = _weakened_or_none(schema)
    if found is None or found.get("type") != "object":
        return None
    every = [each for each in _objects(found) if set(each.get("required", ())) != set(each["properties"])]
    return None if every else found


def anthropic_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a schema weakened to Anthropic's subset, which knows no recursion; None where that cannot be."""
    found = _weakened_or_none(schema)
    return None if found is None or _is_recursive(found) else found


def _structured(**constraint: Any) -> dict[str, Any]:
    """Return the parameter by which vLLM takes formats that OpenAI does not know."""
    return {"extra_body": {"structured_outputs": constraint}}


def _name(output: JsonSchemaFormat) -> str:
    return _NAME.sub("_", output.name or "")[:64] or "answer"


def _weakened_or_none(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        found = _weakened(schema, _DEEPEST)
    except _Beyond:
        return None
    values = sum(len(each["enum"]) for each in _parts(found) if "enum" in each)
    properties = sum(len(each["properties"]) for each in _objects(found))
    return None if values > _MOST_VALUES or properties > _MOST_PROPERTIES else found


def _weakened(schema: object, levels: int) -> dict[str, Any]:
    """Return a schema that all valid answers of a closed kind satisfy, in the keywords that every provider takes."""
    if not isinstance(schema, Mapping) or levels < 0:
        raise _Beyond
    found: dict[str, Any] = {}
    for name, value in schema.items():
        match name, value:
            case (("$defs" | "definitions" | "properties"), Mapping()):
                found[name] = {key: _weakened(each, levels - 1) for key, each in value.items()}
            case (("anyOf" | "oneOf"), list()) if "anyOf" not in found:
                found["anyOf"] = [_weakened(each, levels - 1) for each in value]
            case "items", Mapping():
                found[name] = _weakened(value, levels - 1)
            case "required", list():
                found[name] = value
            case "additionalProperties", False:
                found[name] = False
            case _ if name in _KEPT:
                found[name] = value
            case _ if name not in _RESTRICT:
                raise _Beyond
    return _closed(found)


def _closed(found: dict[str, Any]) -> dict[str, Any]:
    """Return a weakened schema whose objects have no properties but those that it names. Raise _Beyond where it names
    no type, or would forbid what it should not.
    """
    ref, types = found.get("$ref"), found.get("type")
    kinds = types if isinstance(types, list) else [types]
    if ref is not None and not (isinstance(ref, str) and ref.startswith("#")):
        raise _Beyond
    if not found.keys() & {"$ref", "type", "anyOf", "enum", "const"}:
        raise _Beyond
    if "properties" in found and found.keys() & {"$ref", "anyOf"}:
        raise _Beyond  # each would forbid the properties of the other
    if "array" in kinds and "items" not in found:
        raise _Beyond
    if "object" not in kinds:
        return found
    if "properties" not in found and found.get("additionalProperties") is not False:
        raise _Beyond  # a map of any keys, which would be empty
    properties = found.setdefault("properties", {})
    if not set(found.get("required", ())) <= set(properties):
        raise _Beyond
    return {**found, "additionalProperties": False}


def _parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a weakened schema and all schemas in it."""
    yield schema
    for name in ("$defs", "definitions", "properties"):
        for each in schema.get(name, {}).values():
            yield from _parts(each)
    for each in schema.get("anyOf", ()):
        yield from _parts(each)
    if "items" in schema:
        yield from _parts(schema["items"])


def _objects(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (each for each in _parts(schema) if "properties" in each)


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    """Return True if a definition leads back to itself, or a reference names anything but a definition."""
    named = {
        f"#/{place}/{name}": {each["$ref"] for each in _parts(definition) if "$ref" in each}
        for place in ("$defs", "definitions")
        for name, definition in schema.get(place, {}).items()
    }
    left = {each["$ref"] for each in _parts(schema) if "$ref" in each}
    if not left <= named.keys():
        return True
    done: set[str] = set()
    while ready := [name for name, refs in named.items() if name not in done and refs <= done]:
        done.update(ready)
    return len(done) < len(named)
