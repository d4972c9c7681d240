"""Answers whose tokens run out are closed where nothing has to be made up for it."""

import json
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from headrace_schemas import Sampling
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_workers.features.generation.engines.constrained import Compiling, ConstrainedRow, Endings
from headrace_workers.features.generation.engines.stopping import Row
from headrace_workers.features.generation.structured.grammar import grammar_of

BYTES = LLTokenizer("byte")
ENDINGS = Endings(BYTES, BYTES.eos_tokens)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "size": {"type": "integer"},
        "more": {"type": "object"},
    },
    "additionalProperties": False,
}
ANSWER = (
    '{\n "name": "Ada {Lovelace}, [x:",\n "tags": ["a\\"b", "c, d", ""], "size": 1234, "more": {"deep": [{"x": 12.5}]}}'
)


def matcher(schema: dict[str, Any]) -> LLMatcher:
    """The grammar of a schema over bytes."""
    return LLMatcher(BYTES, grammar_of(JsonSchemaFormat(json_schema=schema)), log_level=0)


def row_of(text: str, limit: int, *, schema: dict[str, Any] = SCHEMA, shortens: bool = True) -> ConstrainedRow:
    """An answer that a model which writes this text gets with so many tokens."""
    compiled = Compiling()
    compiled.matcher.set_result(matcher(schema))
    row = ConstrainedRow(
        Row(limit, ()), Sampling(max_tokens=limit), compiled, endings=(lambda: ENDINGS) if shortens else None,
        end_ids=BYTES.eos_tokens, decode=lambda ids: bytes(ids).decode(),
    )  # fmt: skip
    row.start()
    for token in text.encode()[len(row.row.ids) :]:
        if row.add(token):
            break
    return row


@pytest.mark.parametrize(
    ("written", "ending"),
    [
        ('{"name": "Ad', '"}'),
        ('{"name": "Ada, ', '"}'),
        ('{"tags": ["a", "b', '"]}'),
        ('{"tags": ["a"', "]}"),
        ('{"tags": [ ', "]}"),
        ("{\n", "}"),
        ('{"more": {"deep": [{"x": 12.5}', "]}}"),
        ('{"tags": ["a",', None),
        ('{"name": ', None),
        ('{"na', None),
        ('{"more": {"own', None),
        ('{"size": 12', None),
    ],
)
def test_an_ending_closes_and_adds_nothing(written: str, ending: str | None) -> None:
    """No ending begins an item, a key or a value, and none cuts a number."""
    at = matcher(SCHEMA)
    at.consume_tokens(list(written.encode()))
    found = ENDINGS.find(at, list(written.encode()), 10)
    assert (None if found is None else bytes(found).decode()) == ending
    assert not found or ENDINGS.find(at, list(written.encode()), len(found) - 1) is None


def test_no_ending_makes_up_what_a_schema_requires() -> None:
    """An answer that lacks a required field is cut, whatever else stands."""
    row = row_of(ANSWER, 40, schema={**SCHEMA, "required": ["size"]})
    assert (row.ended, row.is_shortened, len(row.row.ids)) == (True, False, 40)


def test_an_answer_is_shortened_to_any_limit() -> None:
    """Each is JSON and what the model began with; where nothing is to be shortened, it is cut."""
    for limit in range(32, len(ANSWER)):
        row = row_of(ANSWER, limit)
        text = bytes(row.row.ids).decode()
        assert (row.ended, row.is_shortened, len(text) <= limit) == (True, True, True), limit
        assert set(json.loads(text)) <= set(json.loads(ANSWER))
        assert text.rstrip('"]} \n') in ANSWER
        assert bytes(row_of(ANSWER, limit, shortens=False).row.ids).decode() == ANSWER[:limit]
    whole = row_of(ANSWER, len(ANSWER))
    assert (whole.is_whole, whole.is_shortened) == (True, False)
