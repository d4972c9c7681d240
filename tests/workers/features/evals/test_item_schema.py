"""Rows are held to the whole schema that an eval was made with, and a schema to bounds."""

import json
from typing import Any

import pytest
from tests.workers.features.evals.test_eval_plan import ROWS
from tests.workers.features.evals.test_graders import CHECK

from headrace_workers.features.evals.eval_plan import EvalPlan, ItemSchema, Row, item_schema_of
from headrace_workers.http.openai import Refused

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["q"],
    "properties": {
        "q": {"type": "string", "minLength": 2, "pattern": "^[A-Z]"},
        "n": {"$ref": "#/$defs/count"},
        "kind": {"enum": ["a", "b"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2, "uniqueItems": True},
    },
    "additionalProperties": False,
    "$defs": {"count": {"type": "integer", "minimum": 1}},
}
GOOD: dict[str, Any] = {"q": "Why?", "n": 1, "kind": "a", "tags": ["x", "y"]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"q": 1}, '/q: it is not of type "string"'),
        ({"q": "W"}, "/q: it is shorter than 2 characters"),
        ({"q": "why?"}, '/q: it does not match "^[A-Z]"'),
        ({"n": True}, '/n: it is not of type "integer"'),
        ({"n": 0}, "/n: it is less than the minimum of 1"),
        ({"kind": "c"}, '/kind: it is not one of "a" or "b"'),
        ({"tags": ["x", 5]}, '/tags/1: it is not of type "string"'),
        ({"tags": ["x", "x"]}, "/tags: it has non-unique elements"),
        ({"more": 1}, "the whole: "),
    ],
)
def test_a_row_is_held_to_all_of_its_schema(change: dict[str, Any], reason: str) -> None:
    schema = ItemSchema.of(SCHEMA)
    schema.hold(GOOD)
    with pytest.raises(ValueError, match="it does not keep to item_schema: ") as caught:
        schema.hold(GOOD | change)
    assert reason in str(caught.value)


def test_a_row_that_lacks_what_is_required_makes_no_job() -> None:
    plan = EvalPlan.of([CHECK], ROWS, {"required": ["q"]})
    row = Row({"answer": "y"}, "x")
    with pytest.raises(ValueError, match='the whole: "q" is a required property'):
        plan.line(row, 1, "evalrun_1", "shop")
    assert EvalPlan.of([CHECK], ROWS, {}).line(row, 1, "evalrun_1", "shop")


def _chain(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"properties": {"a": found}}
    return found


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (None, "must be an object"),
        ({"type": "colour"}, "cannot be used: /type"),
        ({"properties": {"q": {"pattern": "(a+)\\1"}}}, "cannot be used: "),
        ({"pattern": "a{90000}"}, "cannot be used: "),
        ({"const": "x" * 20_000}, "has more than 20000 characters as JSON"),
        (_chain(40), "is nested deeper than 64 levels"),
        ({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}, "refers to itself"),
        ({"$ref": "https://example.org/schema"}, "has a \\$ref that leads out of it"),
        ({"anyOf": [{"pattern": f"{n}"} for n in range(101)]}, "subschemas .* each pattern counted as 20"),
        ({"patternProperties": {f"{n}": {} for n in range(101)}}, "each pattern counted as 20"),
        (
            {"$defs": {"p": {"pattern": "x"}}, "anyOf": [{"$ref": "#/$defs/p"}] * 100},
            "each pattern counted as 20",
        ),
    ],
)  # fmt: skip
def test_a_schema_has_bounds(schema: Any, reason: str) -> None:
    with pytest.raises(Refused, match=f"data_source_config.item_schema: .*{reason}"):
        item_schema_of({"type": "custom", "item_schema": schema})


def test_no_pattern_stalls_a_bridge() -> None:
    schema = ItemSchema.of({"properties": {"q": {"pattern": "^(a+)+$"}, "p": {"pattern": "^(a|a)*b$"}}})
    with pytest.raises(ValueError, match="/q: it does not match"):
        schema.hold({"q": "a" * 200_000 + "!"})
    with pytest.raises(ValueError, match="/p: it does not match"):
        schema.hold({"p": "a" * 200_000})


def test_a_row_that_is_nested_deeply_errs() -> None:
    deep = json.loads("[" * 900 + "]" * 900)
    with pytest.raises(ValueError, match="item_schema"):
        ItemSchema.of({"properties": {"q": {"not": {"uniqueItems": True}}}}).hold({"q": deep})
