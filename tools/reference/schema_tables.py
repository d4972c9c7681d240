"""Tables of fields, from JSON Schemas."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tools.reference.markdown_text import code, link, paragraphs, table

_NO_NUL: Final = r"^[^\x00]*$"  # of nearly every text
_LONGEST_PATTERN: Final = 60
_LONGEST_DEFAULT: Final = 60
_NAMES: Final = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
_FORMATS: Final = {"date-time": "time (RFC 3339)", "binary": "bytes"}
_FEW: Final = 3  # alternatives that are read as a phrase

LinkTo = Callable[[str], str]


def object_section(heading: str, schema: Mapping[str, Any], link_to: LinkTo = link) -> str:
    """Return a section about one object: its description, and its fields or its values."""
    return paragraphs(heading, str(schema.get("description", "")), fields(schema, link_to) or _values(schema, link_to))


def fields(schema: Mapping[str, Any], link_to: LinkTo = link) -> str:
    """Return a table of the fields of an object; the empty text if it has none."""
    required = frozenset(schema.get("required", ()))
    rows = [
        (code(name), type_of(item, link_to), _default(item, name in required), str(item.get("description") or ""))
        for name, item in schema.get("properties", {}).items()
    ]
    if any(row[3] for row in rows):
        return table(("field", "type", "default", "meaning"), rows)
    return table(("field", "type", "default"), (row[:3] for row in rows))


def type_of(schema: Mapping[str, Any], link_to: LinkTo = link) -> str:
    """Return the type of a value in words, with a link to each object that it names."""
    if "$ref" in schema:
        return link_to(schema["$ref"].rpartition("/")[2])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return _one_of([item for item in schema[several] if item.get("type") != "null"], link_to)
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "enum" in schema:
        return ", ".join(code(json.dumps(item)) for item in schema["enum"])
    return _plain(schema, link_to)


def _one_of(schemas: list[Mapping[str, Any]], link_to: LinkTo) -> str:
    """Return the alternatives; a value or a list of such values as "…, or a list of them"."""
    if len(schemas) == 2 and schemas[1].get("items") == schemas[0]:
        return f"{type_of(schemas[0], link_to)}; or a list of them{_most(schemas[1], 'minItems', 'maxItems', '')}"
    kinds = list(dict.fromkeys(type_of(schema, link_to) for schema in schemas))
    return (" or " if len(kinds) <= _FEW else ", ").join(kinds)


def _plain(schema: Mapping[str, Any], link_to: LinkTo) -> str:
    kind = schema.get("type", "")
    if isinstance(kind, list):
        return " or ".join(_NAMES.get(item, "any value") for item in kind if item != "null")
    if kind == "array":
        items = type_of(schema.get("items", {}), link_to)
        return f"list of {items}{_most(schema, 'minItems', 'maxItems', '')}" if items else "list"
    if kind == "object":
        values = schema.get("additionalProperties")
        inner = type_of(values, link_to) if isinstance(values, dict) else ""
        return f"object of {inner}" if inner else "object"
    if kind in ("integer", "number"):
        return _NAMES[kind] + _range(schema)
    if kind == "string":
        text = _FORMATS.get(str(schema.get("format")), "text")
        pattern = schema.get("pattern", _NO_NUL)
        short = pattern != _NO_NUL and text == "text" and len(pattern) <= _LONGEST_PATTERN and "|" not in pattern
        return text + _most(schema, "minLength", "maxLength", " characters") + (f" {code(pattern)}" if short else "")
    return _NAMES.get(str(kind), "any value" if not kind else str(kind))


def _most(schema: Mapping[str, Any], least: str, most: str, unit: str) -> str:
    low, high = schema.get(least), schema.get(most)
    if low == high:
        return f", {low:,}{unit}" if low else ""
    if high is None:
        return f", at least {low:,}{unit}" if low else ""
    return f", {low:,} to {high:,}{unit}" if low else f", up to {high:,}{unit}"


def _range(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    ends = []
    if above is not None:
        ends.append(f"above {above:,}")
    if low is not None:
        ends.append(f"from {low:,.12g}")
    if high is not None:
        ends.append(f"{'to' if ends and low is not None else 'up to'} {high:,.12g}")
    if below is not None:
        ends.append(f"below {below:,}")
    return f", {' '.join(ends)}" if ends else ""


def _default(schema: Mapping[str, Any], required: bool) -> str:
    if required:
        return "required"
    value = schema.get("default")
    if value in (None, "", [], {}):
        return ""
    text = json.dumps(value, ensure_ascii=False)
    return code(text) if len(text) <= _LONGEST_DEFAULT else "its defaults"


def _values(schema: Mapping[str, Any], link_to: LinkTo) -> str:
    if "enum" in schema or "properties" not in schema:
        return f"Type: {type_of(schema, link_to)}."
    return ""


def named_parts(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the objects that a schema refers to, wherever they are named."""
    if isinstance(schema.get("$ref"), str):
        yield schema["$ref"].rpartition("/")[2]
    for value in schema.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from named_parts(item)
