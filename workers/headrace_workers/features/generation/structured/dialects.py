"""The drafts of JSON Schema: which one a schema is written in, and where subschemas stand in it. Pure."""

from collections.abc import Iterator
from typing import Any, Final

_DRAFT_4: Final = "http://json-schema.org/draft-04/schema#"
_DRAFT_7: Final = "http://json-schema.org/draft-07/schema#"
_LATEST: Final = "https://json-schema.org/draft/2020-12/schema"
_NAMES: Final = {  # what authors write, without scheme and `#`
    "json-schema.org/draft-04/schema": _DRAFT_4,
    "json-schema.org/draft-06/schema": "http://json-schema.org/draft-06/schema#",
    "json-schema.org/draft-07/schema": _DRAFT_7,
    "json-schema.org/draft/2019-09/schema": "https://json-schema.org/draft/2019-09/schema",
    "json-schema.org/draft/2020-12/schema": _LATEST,
    "json-schema.org/schema": _LATEST,
}
LEGACY: Final = (_DRAFT_4, _NAMES["json-schema.org/draft-06/schema"], _DRAFT_7)  # a `$ref` hides what stands beside it

_ONE: Final = (
    "additionalItems",
    "additionalProperties",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
_SAME_VALUE: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies")

Step = tuple[str, ...]


def dialect_of(schema: dict[str, Any]) -> str | None:
    """Return the `$schema` of the draft that a schema is written in; None where it names none of drafts 4 to 2020-12.

    Without `$schema` its keywords tell: a boolean `exclusiveMinimum` is draft 4, a list of `items` is draft 7.
    """
    named = schema.get("$schema")
    if named is not None:
        if not isinstance(named, str):
            return None
        return _NAMES.get(named.removeprefix("https://").removeprefix("http://").rstrip("#"))
    found = _LATEST
    waiting: list[Any] = [schema]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, dict):
            continue
        seen.add(id(node))
        if isinstance(node.get("exclusiveMinimum"), bool) or isinstance(node.get("exclusiveMaximum"), bool):
            return _DRAFT_4
        if isinstance(node.get("items"), list):
            found = _DRAFT_7
        waiting += [part for _, part in parts_of(node)]
    return found


def in_its_dialect(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with the `$schema` of its draft, so that all libraries read it alike."""
    return {**schema, "$schema": dialect_of(schema) or _LATEST}


def parts_of(node: dict[str, Any]) -> Iterator[tuple[Step, Any]]:
    """Yield the subschemas of a schema, each with its steps from it. References are not followed."""
    for name in _ONE:
        if isinstance(node.get(name), dict | bool):
            yield (name,), node[name]
    for name in _LISTS:
        if isinstance(node.get(name), list):
            yield from (((name, str(place)), part) for place, part in enumerate(node[name]))
    for name in _MAPS:
        if isinstance(node.get(name), dict):
            yield from (((name, key), part) for key, part in node[name].items() if isinstance(part, dict | bool))


def parts_of_same_value(node: dict[str, Any]) -> Iterator[tuple[Step, Any]]:
    """Yield the subschemas that apply to the very value that the schema applies to."""
    return ((steps, part) for steps, part in parts_of(node) if steps[0] in _SAME_VALUE)


def pointer(steps: Step) -> str:
    """Return steps as a JSON pointer (RFC 6901)."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
