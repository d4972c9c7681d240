"""JSON by a schema: what conforms, what is said of the rest, and what nobody may make of it."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from headrace_workers.features.judging.checks import json_schema
from headrace_workers.features.judging.scores import TooDeep, UnusableSchema

ORDER: dict[str, Any] = {
    "type": "object",
    "properties": {"item": {"$ref": "#/$defs/name"}, "count": {"type": "integer", "minimum": 1}},
    "required": ["item", "count"],
    "additionalProperties": False,
    "$defs": {"name": {"type": "string", "pattern": "^[a-z]+$"}},
}


@pytest.mark.parametrize(
    ("output", "value", "note"),
    [
        ('{"item": "tea", "count": 2}', 1.0, None),
        ('\n{"item": "tea", "count": 2.0}\n', 1.0, None),
        ('{"item": "tea", "count": 0}', 0.0, "/count: it is less than the minimum of 1"),
        ('{"item": "TEA", "count": 2}', 0.0, '/item: it does not match "^[a-z]+$"'),
        ('{"item": "tea"}', 0.0, 'the whole: "count" is a required property'),
        ("Here you are: {}", 0.0, "it is no JSON document"),
        ('{"item": "tea", "count": NaN}', 0.0, "it is no JSON document"),
        ("", 0.0, "it is no JSON document"),
    ],
)
def test_a_document_conforms_or_the_first_fault_is_named(output: str, value: float, note: str | None) -> None:
    assert json_schema(output, ORDER) == (value, note)


def test_nothing_is_fetched(tmp_path: Path) -> None:
    """A reference that leads elsewhere is refused at the door; one that came past it is not followed either, be there
    a schema in the file, or a server that would be asked.
    """
    file = tmp_path / "schema.json"
    file.write_text('{"type": "object"}')
    with pytest.raises(UnusableSchema):
        json_schema("{}", {"$ref": file.as_uri()})
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        with pytest.raises(UnusableSchema):
            json_schema("{}", {"$ref": f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"})
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_document_nested_too_deeply_is_a_reason() -> None:
    with pytest.raises(TooDeep):
        json_schema("[" * 100_000 + "]" * 100_000, {"items": {"type": "array"}})
    deep = "[" * 900 + "]" * 900
    assert json_schema(f"[{deep}, {deep}]", {"const": [[1]]})[0] == 0.0
    with pytest.raises(TooDeep):
        json_schema(f"[{deep}, {deep}]", {"uniqueItems": True})


def test_a_document_with_many_faults_costs_no_more_than_one() -> None:
    """The first is told; all of them would be gigabytes."""
    schema = json_schema(json.dumps([1] * 60_000), {"items": {"enum": list(range(2, 4_000))}})
    assert schema == (0.0, "/0: it is not one of 2, 3 or 3996 other candidates")
