"""Tests of formats of answers in jobs: their bounds, and what of them travels."""

from typing import Any

import pytest
from pydantic import ValidationError

from headrace_schemas import GenerationJob
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_schemas.schema_object import MAX_DEPTH
from headrace_schemas.tool import Tool


def _nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (_nested(MAX_DEPTH + 1), "deeper than 100 levels"),
        (_nested(1_000), "deeper than 100 levels"),
        (_nested(100_000), "deeper than 100 levels"),
        ({"description": "x" * 262_144}, "the limit is 262144"),
        ({"enum": [f"{number:050d}" for number in range(220_000)]}, "the limit is 262144"),
        ({"minItems": float("nan")}, "JSON does not have"),
        ({"default": object()}, "JSON does not have"),
        ({"title": "\ud800"}, "surrogate"),
        ({"properties": {"\x00": {}}}, "NUL"),
    ],
)
def test_bounds_schemas(schema: dict[str, Any], words: str) -> None:
    """A schema that is too deep, too large or no JSON is refused wherever a job has one."""
    with pytest.raises(ValidationError, match=words):
        JsonSchemaFormat(json_schema=schema)
    with pytest.raises(ValidationError, match=words):
        Tool(name="look_up", parameters=schema)


@pytest.mark.parametrize("schema", [_nested(MAX_DEPTH), {"pattern": "\\\\u0000"}, {"description": "x" * 262_000}])
def test_takes_schemas_within_bounds(schema: dict[str, Any]) -> None:
    job = GenerationJob(model="tiny", prompt="Hello", output=JsonSchemaFormat(json_schema=schema))

    assert GenerationJob.model_validate_json(job.model_dump_json()) == job


def test_the_json_of_a_schema_is_written_once() -> None:
    output, same = (JsonSchemaFormat(json_schema={"title": "é", "enum": [1, 2]}) for _ in range(2))

    assert output.as_json is output.as_json
    assert output.as_json == '{"title":"é","enum":[1,2]}'
    assert output == same
    assert output.model_dump() == same.model_dump()
