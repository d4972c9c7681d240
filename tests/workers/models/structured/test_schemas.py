"""Tests of formats at admission: which JSON Schemas, patterns and grammars are taken, and how others are refused."""

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from headrace_schemas.errors import InvalidRecord
from headrace_schemas.output_format import (
    ChoiceFormat,
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    OutputFormat,
    RegexFormat,
)
from headrace_workers.models.structured import compiling, schemas
from headrace_workers.models.structured.compiling import CompileAllowance, FormatsTooSlow
from headrace_workers.models.structured.schemas import check_format, is_known

pytestmark = pytest.mark.integration  # formats are compiled in processes of their own

_REAL = Path(__file__).parents[4] / "bench/structured_schemas.jsonl.gz"


@pytest.fixture(autouse=True)
def allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test takes from the allowance of another."""
    monkeypatch.setattr(schemas, "_allowance", CompileAllowance())


def _check(schema: dict[str, Any]) -> None:
    """Check a schema that the contract may have refused before, for its size or depth."""
    check_format(JsonSchemaFormat.model_construct(json_schema=schema), "t")


def _refused(schema: dict[str, Any]) -> tuple[str, str]:
    """Return the place in a schema, and the words, with which it is refused."""
    with pytest.raises(InvalidRecord) as refused:
        _check(schema)
    assert refused.value.param is not None
    assert refused.value.code == "invalid_value"
    return refused.value.param.removeprefix("output.json_schema"), str(refused.value)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False},
        {
            "$schema": "http://json-schema.org/draft-04/schema#",
            "type": "number",
            "minimum": 0,
            "exclusiveMinimum": True,
        },
        {"type": "number", "minimum": 0, "exclusiveMinimum": True},
        {"$schema": "https://json-schema.org/draft-07/schema", "items": [{"type": "string"}], "additionalItems": False},
        {"type": "array", "items": [{"type": "string"}]},
        {"$schema": "http://json-schema.org/draft/2020-12/schema#", "prefixItems": [{"type": "string"}]},
        {"$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}, "type": "object"}}, "$ref": "#/$defs/n"},
        {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#"}}]},
        {"$id": "https://shop.example/a", "$defs": {"b": {"$anchor": "b", "type": "null"}}, "$ref": "#b"},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "made-up"},
        {"oneOf": [{"type": "string"}, {"maxLength": 3}]},
        {"type": "array", "uniqueItems": True, "items": {"type": "integer"}},
        {"if": {"type": "string"}, "then": {"minLength": 1}},
        {"properties": {"pattern": {"type": "string"}, "then": {"type": "null"}, "$ref": {"type": "string"}}},
        {"enum": [f"value {number}" for number in range(10_000)]},
        {"pattern": r"^\(?=[a-z]$"},
    ],
)
def test_takes_schemas_of_all_drafts(schema: dict[str, Any]) -> None:
    _check(schema)


@pytest.mark.parametrize(
    ("schema", "place", "words"),
    [
        ({"$ref": "#"}, "", "refers to itself"),
        ({"anyOf": [{"$ref": "#"}, {"type": "string"}]}, "", "refers to itself"),
        ({"properties": {"a": {"$ref": "https://other.example/s"}}}, "/properties/a/$ref", "out of the schema"),
        ({"items": {"$ref": "#/$defs/absent"}}, "/items/$ref", "leads to nothing"),
        ({"type": "array", "minItems": 3, "maxItems": 1}, "", "minItems (3) is greater than maxItems (1)"),
        ({"type": "object", "required": ["b"], "additionalProperties": False}, "", "'b' is unsatisfiable"),
        ({"patternProperties": {"a": {}, "b": {}}}, "", "/a/ and /b/ are not disjoint"),
        (
            {"$defs": {"a/b": {"type": "array", "minItems": 3, "maxItems": 1}}, "$ref": "#/$defs/a~1b"},
            "/$defs/a~1b",
            "minItems (3) is greater than maxItems (1)",
        ),
        ({"then": {"type": "string"}}, "/then", "without if"),
        ({"properties": {"a/b": {"pattern": "^(?!x)y"}}}, "/properties/a~1b/pattern", "looks around"),
        ({"patternProperties": {"(?<=a)b": {}}}, "/patternProperties/(?<=a)b", "looks around"),
        ({"pattern": "((a{1,1000}){1,1000}){1,1000}"}, "/pattern", "too large"),
        ({"pattern": "("}, "/pattern", "no regular expression"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "/$schema", "none of the drafts"),
        ({"properties": {"a": {"type": "text"}}}, "/properties/a/type", "no JSON Schema"),
        (
            {"patternProperties": {f"^{number}$": {} for number in range(1_001)}},
            "/patternProperties/^1000$",
            "1000 patt",
        ),
        ({"enum": [str(number) for number in range(10_001)]}, "/enum", "10000 values"),
    ],
)
def test_refuses_by_place(schema: dict[str, Any], place: str, words: str) -> None:
    text, said = _refused(schema)

    assert text == place
    assert words in said


def _chain(length: int) -> dict[str, Any]:
    parts = {
        f"d{number}": {"type": "object", "properties": {"n": {"$ref": f"#/$defs/d{(number + 1) % length}"}}}
        for number in range(length)
    }
    return {"$defs": parts, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(_chain(2_000), id="rules nested so deep that llguidance ends its process"),
        pytest.param(
            {"type": "object", "patternProperties": {f"^[a-z]{{0,200}}_{n}x*$": {} for n in range(200)}},
            id="patterns that are compared in pairs",
        ),
        pytest.param(
            {"properties": {f"property {n}": {"type": "string"} for n in range(15_000)}}, id="many properties"
        ),
        pytest.param(
            {"allOf": [{"anyOf": [{"properties": {f"a{n}": {}}}, {"properties": {f"b{n}": {}}}]} for n in range(30)]},
            id="products of alternatives",
        ),
        pytest.param(
            {
                "allOf": [{"$ref": "#/$defs/d0"}],
                "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}]} for n in range(300)} | {"d300": {}},
            },
            id="a long chain for one value",
        ),
    ],
)
def test_bounds_compiling(schema: dict[str, Any]) -> None:
    """A schema that takes too much to compile is refused within bounded time, and ends no process of ours."""
    before = time.process_time()

    _refused(schema)

    assert time.process_time() - before < 5  # of this process; the one that compiles has its own bound


@pytest.mark.parametrize(
    "output",
    [
        JsonObjectFormat(),
        ChoiceFormat(choices=("yes", "no")),
        RegexFormat(pattern=r"[A-Z]{3}-\d{4}"),
        RegexFormat(pattern=r"(a|b)*a(a|b){30}"),
        GrammarFormat(grammar='start: item ("," item)*\nitem: /[a-z]+/ | "(" start ")"'),
        GrammarFormat(grammar='start: %json {"type": "object", "properties": {"a:b": {"enum": ["}"]}}}'),
    ],
)
def test_takes_other_formats(output: OutputFormat) -> None:
    """Patterns and grammars that llguidance compiles are taken."""
    check_format(output, "t")

    assert is_known(output)


@pytest.mark.parametrize(
    ("output", "param", "words"),
    [
        (RegexFormat(pattern="a(?=b)"), "output.pattern", "look"),
        (RegexFormat(pattern="("), "output.pattern", "regex"),
        (RegexFormat(pattern=r"[^\s\S]"), "output.pattern", "no text satisfies"),
        (GrammarFormat(grammar="begin: /a/"), "output.grammar", "start"),
        (GrammarFormat(grammar='start: "a" absent'), "output.grammar", "absent"),
    ],
)
def test_refuses_other_formats(output: OutputFormat, param: str, words: str) -> None:
    for _ in range(2):  # the second answer is the one that was kept
        with pytest.raises(InvalidRecord, match=words) as refused:
            check_format(output, "t")
        assert refused.value.param == param


def test_remembers_results() -> None:
    """A format that was checked once is known, whatever the result was."""
    output = JsonSchemaFormat(json_schema={"title": "remembered once", "type": "string"})
    assert not is_known(output)

    check_format(output, "t")

    assert is_known(output)


def test_what_a_check_takes_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "ALLOWANCE", 0.5)
    deep = JsonSchemaFormat.model_construct(json_schema=_chain(2_000) | {"title": "counted"})

    for _ in range(2):  # the second time it is known
        with pytest.raises(InvalidRecord, match="levels of nesting"):
            check_format(deep, "slow")
    with pytest.raises(FormatsTooSlow):
        check_format(RegexFormat(pattern="counted"), "slow")
    check_format(RegexFormat(pattern="counted"), "other")


def test_takes_most_real_schemas() -> None:
    lines = gzip.decompress(_REAL.read_bytes()).splitlines()[::10]
    refused = 0
    for line in lines:
        try:
            _check(json.loads(line)["schema"])
        except InvalidRecord:
            refused += 1

    assert refused <= len(lines) * 0.2
