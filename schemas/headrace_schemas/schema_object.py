"""JSON Schemas in jobs, bounded in size and depth. Their contents are checked at admission. Pure."""

import json
from typing import Annotated, Any, Final

from pydantic import AfterValidator

from headrace_schemas.limits import NO_NUL, PATTERNS

MAX_SCHEMA_BYTES: Final = 256 * 1024  # of a JSON Schema as JSON, and of a grammar
MAX_DEPTH: Final = 100  # levels; a compiler of grammars reads 128


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    if _is_deep(schema):
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no character") from None
    except (TypeError, ValueError):
        raise ValueError("holds a value that JSON does not have") from None
    if len(text) > MAX_SCHEMA_BYTES:
        raise ValueError(f"has {len(text)} bytes as JSON; the limit is {MAX_SCHEMA_BYTES}")
    if b"\\u0000" in text and "\x00" in "".join(_texts(schema)):
        raise ValueError(PATTERNS[NO_NUL])
    return schema


def _is_deep(schema: dict[str, Any]) -> bool:
    level: list[Any] = [schema]
    for _ in range(MAX_DEPTH):
        level = [part for node in level for part in (node.values() if isinstance(node, dict) else node)]
        level = [part for part in level if isinstance(part, dict | list | tuple)]
        if not level:
            return False
    return True


def _texts(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [text for name, part in node.items() for text in (str(name), *_texts(part))]
    if isinstance(node, list | tuple):
        return [text for part in node for text in _texts(part)]
    return [node] if isinstance(node, str) else []


SchemaObject = Annotated[dict[str, Any], AfterValidator(_bounded)]
