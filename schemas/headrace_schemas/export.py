"""The contract for other languages: a JSON Schema of each event, and an AsyncAPI document of all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from headrace_schemas.asyncapi import build_asyncapi
from headrace_schemas.event_types import known_types
from headrace_schemas.jsonschema import build_json_schema

ASYNCAPI_FILE: Final = "asyncapi.json"


def export(directory: Path) -> list[Path]:
    """Write `<type>.schema.json` for each event type and `asyncapi.json`; the paths written. Makes the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, document in documents():
        path = directory / name
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(path)
    return written


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the content of each file, by its name."""
    for event_type in known_types():
        yield schema_file(event_type.name), build_json_schema(event_type)
    yield ASYNCAPI_FILE, build_asyncapi()


def schema_file(event_type: str) -> str:
    """Return the name of the file with an event type's JSON Schema."""
    return f"{event_type}.schema.json"
