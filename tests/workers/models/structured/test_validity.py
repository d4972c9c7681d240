"""Tests of the check of answers: each is valid by its format, or fails with a reason and a place."""

import json
import time
from typing import Any

import pytest

from headrace_schemas.errors import Category, Unparsable
from headrace_schemas.output_format import (
    ChoiceFormat,
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    OutputFormat,
    RegexFormat,
)
from headrace_workers.features.judging.checks import json_schema
from headrace_workers.models.structured.validity import failure_of

_TICKET = JsonSchemaFormat(
    json_schema={
        "type": "object",
        "properties": {
            "id": {"type": "integer", "minimum": 1},
            "when": {"type": "string", "format": "date-time"},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True},
        },
        "required": ["id"],
        "additionalProperties": False,
    }
)


def _schema(**schema: Any) -> JsonSchemaFormat:
    return JsonSchemaFormat(json_schema=schema)


def _failed(output: OutputFormat, text: str, finish_reason: str = "stop") -> Unparsable:
    failure = failure_of(output, text, finish_reason)
    assert failure is not None
    assert len(str(failure)) < 1_000
    return failure


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (_TICKET, '{"id": 1, "when": "2026-01-01T00:00:00Z", "tags": ["a", "b"]}'),
        (_TICKET, ' {\n"id": 1.0}\n'),
        (JsonObjectFormat(), r'{"\ud83d\ude00": "\u00e9😀"}'),
        (JsonObjectFormat(), '{"anything": [NaN_is_no_value]}'.replace("NaN_is_no_value", "1e300")),
        (_schema(type="string", pattern="^a+$"), '"aaa"'),
        (_schema(items=[{"type": "string"}], additionalItems=False), '["a"]'),
        (_schema(type="number", minimum=0, exclusiveMinimum=True), "0.5"),
        (ChoiceFormat(choices=("yes", "a.b")), "a.b"),
        (RegexFormat(pattern="[A-Z]{3}|B+"), "ABC"),
        (RegexFormat(pattern="(a|b)*a(a|b){30}"), "ab" * 500 + "a" * 31),
        (GrammarFormat(grammar='start: "(" start? ")"'), "((()))"),
        (GrammarFormat(grammar="start: /[à-ÿ]+/"), "éàü"),
    ],
)
def test_passes_valid_answers(output: OutputFormat, text: str) -> None:
    assert failure_of(output, text, "stop") is None


@pytest.mark.parametrize(
    ("output", "text", "place", "words"),
    [
        (_TICKET, '{"id": 0}', "/id", "less than the minimum"),
        (_TICKET, "{}", "", "required"),
        (_TICKET, '{"id": 1, "when": "yesterday"}', "/when", "date-time"),
        (_TICKET, '{"id": 1, "tags": ["a", "a"]}', "/tags", "unique"),
        (_TICKET, '{"id": 1, "tags": ["a", "c"]}', "/tags/1", "not one of"),
        (_TICKET, '{"id": 1, "other": 2}', "", "it breaks additionalProperties"),
        (_TICKET, '{"id": 1', "8", "no JSON document"),
        (_TICKET, 'Here it is: {"id": 1}', "0", "no JSON document"),
        (_TICKET, '{"id": 1}{"id": 2}', "9", "no JSON document"),
        (_TICKET, "", "0", "no JSON document"),
        (_TICKET, '{"id": 1, "id": 2}', "/id", "twice"),
        (_TICKET, '{"id": 1, "tags": [0, {"id": 1, "id": 2}]}', "/tags/1/id", "twice"),
        (JsonObjectFormat(), '{"a": [{}, {"b~/": 1, "b~/": 2}]}', "/*/1/*", "twice"),
        (JsonObjectFormat(), '{"a": NaN}', None, "NaN"),
        (JsonObjectFormat(), '{"a": -Infinity}', None, "Infinity"),
        (JsonObjectFormat(), '{"a": 1e999}', None, "too large"),
        (_schema(properties={"name": {}}), r'{"name": "\ud800"}', None, "half of a character"),
        (JsonObjectFormat(), r'{"\udc00\ud83d": 1}', None, "half of a character"),
        (JsonObjectFormat(), "[]", "", "no object"),
        (_schema(type="number", minimum=0, exclusiveMinimum=True), "0", "", "minimum"),
        (_schema(items=[{"type": "string"}], additionalItems=False), '["a", 1]', "", "it breaks additionalItems"),
        (ChoiceFormat(choices=("yes", "a.b")), "axb", "0", "none of the choices"),
        (ChoiceFormat(choices=("yes",)), "yes ", "0", "none of the choices"),
        (RegexFormat(pattern="[A-Z]{3}"), "ABCD", "3", "character 3"),
        (RegexFormat(pattern="[A-Z]{3}"), "AB", "2", "ends before"),
        (RegexFormat(pattern="é+x"), "ééy", "2", "character 2"),
        (GrammarFormat(grammar='start: "(" start? ")"'), "(()", "3", "ends before"),
    ],
)
def test_fails_with_reason_and_place(output: OutputFormat, text: str, place: str | None, words: str) -> None:
    failure = _failed(output, text)

    assert failure.failure == "unparsable"
    assert failure.place == place
    assert words in str(failure)
    assert failure.category is Category.REROUTABLE


def test_quotes_no_name_that_the_model_made_up() -> None:
    numbers = {"type": "object", "additionalProperties": {"type": "integer"}}
    schema = {"type": "object", "properties": {"ages": numbers}, "additionalProperties": False}
    output = JsonSchemaFormat(json_schema=schema)
    inside, beside = _failed(output, '{"ages": {"swordfish": "x"}}'), _failed(output, '{"swordfish": 1}')
    twice = _failed(output, '{"ages": {"swordfish": 1, "swordfish": 2}}')
    assert (inside.place, beside.place, twice.place) == ("/ages/*", "", "/ages/*")
    assert "swordfish" not in f"{inside} {beside} {twice}"


def test_names_an_answer_that_was_cut_off() -> None:
    assert _failed(_TICKET, '{"id": 1', "length").failure == "truncated"
    assert failure_of(RegexFormat(pattern="a+"), "aaa", "length") is None


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (_TICKET, "[" * 200_000),
        (_TICKET, "[" * 10_000 + "]" * 10_000),
        (_schema(items={"$ref": "#"}), "[" * 10_000 + "]" * 10_000),
        (JsonObjectFormat(), '{"a":' * 10_000 + "1" + "}" * 10_000),
        (_schema(properties={"a": {"$ref": "#"}}), '{"a":' * 900 + "true" + "}" * 900 + "x"),
        (_schema(type="integer"), "1" * 200_000),
        (_schema(type="string"), '"\\ud800"'),
        (_schema(type="string"), '"\ud800'),
        (RegexFormat(pattern="a"), "\ud800"),
        (ChoiceFormat(choices=("a",)), "\ud800"),
        (JsonObjectFormat(), "{" + '"a":1,' * 30_000 + '"a":1}'),
        (_schema(type="string", pattern="^(a|b)*a(a|b){12}$"), '"' + "ab" * 90_000 + 'c"'),
        (RegexFormat(pattern="(a|b)*a(a|b){300}"), "abaab" * 40_000),
        (RegexFormat(pattern="a*"), "a" * 200_001),
    ],
)
def test_bounds_hostile_answers(output: OutputFormat, text: str) -> None:
    assert _failed(output, text).failure == "unparsable"


@pytest.mark.integration  # seconds
def test_bounds_ambiguous_grammars() -> None:
    before = time.thread_time()

    failure = _failed(GrammarFormat(grammar='start: e\ne: e e | "a"'), "a" * 3_000)

    assert "check by its grammar" in str(failure)
    assert time.thread_time() - before < 10


def _twice_as_often() -> JsonSchemaFormat:
    twice = {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}
    return JsonSchemaFormat(json_schema={"$defs": {"a": {"properties": {"x": twice}}}, **twice})


def _nested(depth: int) -> str:
    return '{"x":' * depth + "{}" + "}" * depth


def test_an_answer_that_fails_very_many_branches_has_a_general_reason() -> None:
    chain = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(14)} | {"d14": {"type": "null"}}
    few, many = ({"$defs": chain, "$ref": f"#/$defs/d{start}"} for start in (11, 0))

    assert "it breaks anyOf" in str(_failed(JsonSchemaFormat(json_schema=few), "5"))
    assert str(_failed(JsonSchemaFormat(json_schema=many), "5")) == "the answer does not keep to its schema"
    assert failure_of(JsonSchemaFormat(json_schema=many), "null", "stop") is None
    assert json_schema("5", many) == (0.0, "it does not keep to the schema")


def test_bounds_checks_that_multiply() -> None:
    assert failure_of(_twice_as_often(), _nested(10), "stop") is None
    assert "too many levels" in str(_failed(_twice_as_often(), _nested(60)))


def test_bounds_checks_that_multiply_for_one_value() -> None:
    parts = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)} | {"d30": {}}

    assert "too many levels" in str(_failed(JsonSchemaFormat(json_schema={"$defs": parts, "$ref": "#/$defs/d0"}), "1"))


@pytest.mark.integration  # seconds
def test_bounds_checks_without_end() -> None:
    assert "too many levels" in str(_failed(JsonSchemaFormat(json_schema={"$ref": "#"}), "1"))


def test_tells_no_value_of_an_answer() -> None:
    failure = _failed(_schema(properties={"a": {"type": "integer"}}), json.dumps({"a": "my secret"}))

    assert "secret" not in str(failure)
