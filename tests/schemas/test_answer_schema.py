from typing import Any

import pytest

from headrace_schemas import GenerationJob, InvalidRecord, JsonSchema
from headrace_schemas.answer_schema import bounded
from headrace_schemas.codec import decode_value, encode_value


def doubling(levels: int) -> dict[str, Any]:
    """Definitions each of which names the next twice: 2^levels subschemas when they are followed."""
    names = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": {**names, f"d{levels}": {"type": "string"}}}


def chain(levels: int) -> dict[str, Any]:
    """Definitions each of which names the next once: what is only defined is not counted."""
    names = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": {**names, f"d{levels}": {"type": "string"}}}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def deep_to(reference: str, levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"$ref": reference}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"$ref": "http://internal.example/schema"}, "has a $ref that leads out of it"),
        ({"$ref": "file:///etc/passwd"}, "has a $ref that leads out of it"),
        ({"$ref": "other.json#/$defs/a"}, "has a $ref that leads out of it"),
        ({"$ref": "#anchor"}, "has a $ref that leads out of it"),
        ({"$ref": "#/$defs/none"}, "has a $ref that leads to nothing in it"),
        ({"allOf": [{}], "items": {"$ref": "#/allOf/7"}}, "has a $ref that leads to nothing in it"),
        ({"items": {"$ref": "#"}}, "refers to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "refers to itself"),
        ({"items": {"$id": "http://internal.example/"}}, "has $id where it is not followed"),
        ({"items": {"$schema": "http://json-schema.org/draft-07/schema#"}}, "has $schema where it is not followed"),
        ({"$dynamicRef": "#node"}, "has $dynamicRef where it is not followed"),
        ({"$schema": "http://internal.example/dialect"}, "$schema must be one of https://json-schema.org/draft/2020-12"),
        ({"$schema": 5}, "$schema must be one of"),
        ({"const": "x" * 20_000}, "has more than 20000 characters as JSON"),
        ({"minimum": float("nan")}, "holds a number that is not finite"),
        ({"const": "a\0b"}, "holds the character NUL"),
        (nested(64), "is nested deeper than 64 levels"),
        (nested(2_000), "is nested deeper than 64 levels"),
        ({"anyOf": [{"$ref": "#/$defs/a"}], "not": deep_to("#/$defs/a", 30), "$defs": {"a": nested(40)}}, "is nested"),
        (doubling(20), "has more than 2000 subschemas with its references followed"),
        (
            {"properties": {"definitions": {"$ref": "#/$defs/d0"}}, "$defs": doubling(20)["$defs"]},
            "has more than 2000 subschemas",
        ),
        ({"$defs": {"a": {"$ref": "http://internal.example/"}}}, "has a $ref that leads out of it"),
        (doubling(70), "is nested deeper than 64 levels"),
    ],
)  # fmt: skip
def test_what_is_refused(schema: dict[str, Any], reason: str) -> None:
    """What leads elsewhere, has no bound, or would make a small schema a great deal of work."""
    with pytest.raises(ValueError, match="^" + reason.replace("$", r"\$")):
        bounded(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://shop.example/order"},
        {"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}}},
        {"properties": {"a": {"$ref": "#/$defs/a~1b%20c"}}, "$defs": {"a/b c": {"type": "string"}}},
        nested(60),
        doubling(8),
        chain(60),
    ],
)
def test_what_is_taken(schema: dict[str, Any]) -> None:
    assert bounded(schema) == schema


def test_a_job_is_refused_with_the_place() -> None:
    job = GenerationJob(model="m", prompt="p", criteria=(JsonSchema(json_schema={"type": "object"}),))
    value = encode_value(job)
    assert decode_value("headrace.job.generation.v1", value) == job
    with pytest.raises(InvalidRecord, match=r"^criteria\.0\.json_schema: refers to itself: a schema of bounded depth"):
        decode_value("headrace.job.generation.v1", value.replace(b'{"type":"object"}', b'{"items":{"$ref":"#"}}'))
