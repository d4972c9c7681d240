from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from headrace_schemas.output_format import ChoiceFormat, JsonObjectFormat, JsonSchemaFormat, OutputFormat, RegexFormat
from headrace_workers.models.structured.grammar import grammar_of

_DRAFT_4 = "http://json-schema.org/draft-04/schema"
_BYTES = LLTokenizer("byte")


def _may_write(output: OutputFormat, text: str) -> bool:
    matcher = LLMatcher(_BYTES, grammar_of(output), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return matcher.consume_tokens(list(text.encode())) and matcher.is_accepting()


def _schema(**schema: Any) -> JsonSchemaFormat:
    return JsonSchemaFormat(json_schema=schema)


_LIST = _schema(type="object", properties={"a": {"type": "array", "items": {"type": "integer"}}}, required=["a"])


@pytest.mark.parametrize(
    "text",
    [
        '{"a":[1,2]}',
        '{"a": [1, 2]}',
        '{ "a" : [ 1 ] }',
        '{\n  "a": [\n    1,\n    2\n  ]\n}',
        '{"a":[\n\t1]}',
        '{"a":[]}',
    ],
)
def test_lets_lists_begin_as_models_write_them(text: str) -> None:
    """A list may go on in a new line, so that it need not be closed at once."""
    assert _may_write(_LIST, text)


@pytest.mark.parametrize("space", [" ", "\n", "\t", "\r\n "])
@pytest.mark.parametrize(
    "place", ['{%s"a":[]}', '{"a"%s:[]}', '{"a":%s[]}', '{"a":[%s1]}', '{"a":[1%s]}', '{"a":[]%s}']
)
def test_bounds_white_space(place: str, space: str) -> None:
    assert _may_write(_LIST, place % (space * 8)[:8])
    assert not _may_write(_LIST, place % (space * 9)[:9])


@pytest.mark.parametrize("text", [' {"a":[]}', '{"a":[]}\n'])
def test_begins_and_ends_with_the_value(text: str) -> None:
    assert not _may_write(_LIST, text)


@pytest.mark.parametrize(
    ("output", "right", "wrong"),
    [
        (
            _schema(
                **{"$schema": "http://json-schema.org/draft-04/schema"},
                minimum=1,
                exclusiveMinimum=True,
                type="integer",
            ),
            "2",
            "1",
        ),
        (_schema(minimum=1, exclusiveMinimum=True, type="integer"), "2", "1"),
        (_schema(**{"$schema": "http://json-schema.org/draft/2020-12/schema#"}, type="null"), "null", "1"),
        (_schema(type="array", items=[{"type": "string"}], additionalItems=False), '["a"]', '["a","b"]'),
        (_schema(type="array", prefixItems=[{"type": "string"}], items=False), '["a"]', '["a","b"]'),
        (
            _schema(definitions={"a": {"id": "#a", "type": "null"}}, items={"$ref": "#/definitions/a"}, type="array"),
            "[null]",
            "[1]",
        ),
        (_schema(type="string", format="made-up"), '"x"', "1"),
        (_schema(oneOf=[{"type": "string"}, {"type": "null"}]), "null", "1"),
        (JsonObjectFormat(), '{"a":[true]}', "[]"),
        (RegexFormat(pattern="[a-c]{2}"), "ab", "abc"),
        (ChoiceFormat(choices=("a", "ab", 'x"\\\n/\u0001.é😀')), 'x"\\\n/\u0001.é😀', "x"),
        (ChoiceFormat(choices=("a", "ab")), "ab", "abb"),
        (ChoiceFormat(choices=("a.b",)), "a.b", "axb"),
        (ChoiceFormat(choices=tuple(f"choice {number}" for number in range(10_000))), "choice 9999", "choice 10000"),
    ],
)
def test_holds_a_model_to_its_format(output: OutputFormat, right: str, wrong: str) -> None:
    """A grammar lets through what has the format and nothing else, in whatever draft it is written."""
    assert _may_write(output, right)
    assert not _may_write(output, wrong)


_NODE = {"type": "object", "properties": {"next": {"$ref": "#", "minProperties": 1, "description": "the next"}}}
_LONG = 9_007_199_254_740_993  # no float


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"const": _LONG}, str(_LONG)),
        ({"const": -(2**63) + 1}, str(-(2**63) + 1)),
        ({"enum": [2**63 - 1, "none"]}, str(2**63 - 1)),
        ({"enum": [2**63 - 1, "none"]}, '"none"'),
        ({"const": {"id": [10**30 + 1]}}, f'{{"id": [{10**30 + 1}]}}'),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, str(2**63 - 1)),
        ({"type": "integer", "minimum": _LONG, "maximum": _LONG}, str(_LONG)),
        ({"type": "number", "minimum": -1e300, "maximum": 1e300}, "-1e299"),
        ({"exclusiveMinimum": 1e-300}, "0.1"),
        ({"type": "number", "multipleOf": 1e-20}, "0.5"),
        ({"properties": {"a": {}, "b": {}}, "minProperties": 2, "additionalProperties": False}, '{"a":1,"b":2}'),
        ({"properties": {"a": {}, "b": {}}, "minProperties": 1}, '{"b":1}'),
        (_NODE, '{"next":{"next":{}}}'),
        (
            {"properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}], "x-order": 1}}},
            '{"next":{"next":null}}',
        ),
        ({"properties": {"next": {"allOf": [{"$ref": "#"}, {"minProperties": 1}]}}}, '{"next":{"next":{}}}'),
        (
            {
                "$schema": _DRAFT_4,
                "properties": {"a": {"$ref": "#/definitions/n", "type": "string"}},
                "definitions": {"n": {"type": "null"}},
            },
            '{"a":null}',
        ),
        ({"type": "string", "pattern": r"\bmill\b"}, '"the mill"'),
        ({"type": "string", "pattern": r"^\cA$"}, r'"\u0001"'),
        ({"type": "string", "pattern": "^([^,]+(,|$)){3,}$"}, '"a,b,c"'),
        ({"patternProperties": {r"\bmill\b": {}}, "additionalProperties": False}, '{"the mill":1}'),
    ],
)
def test_leaves_to_the_check_what_it_cannot_say(schema: dict[str, Any], text: str) -> None:
    """llguidance has floats for bounds, no edges of words, and no keyword beside a reference that leads back."""
    assert _may_write(_schema(**schema), text)


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ({"const": _LONG}, str(_LONG + 2)),
        ({"enum": [_LONG, "none"]}, '"some"'),
        ({"type": "object", "minProperties": 2}, '{"a":1}'),
        ({"properties": {"a": {}}, "minProperties": 1, "additionalProperties": False}, "{}"),
        (_NODE, '{"next":[]}'),
        ({"$ref": "#/$defs/n", "maxLength": 1, "$defs": {"n": {"type": "string"}}}, '"ab"'),
        ({"type": "string", "pattern": r"^(a|\$|[$^])$|^b$"}, '"c"'),
    ],
)
def test_holds_a_model_to_all_that_it_can_say(schema: dict[str, Any], wrong: str) -> None:
    assert not _may_write(_schema(**schema), wrong)


def test_options_of_the_library_are_no_part_of_a_schema() -> None:
    assert grammar_of(_schema(**{"x-guidance": {"item_separator": ";"}}, type="array")) == grammar_of(
        _schema(type="array")
    )
