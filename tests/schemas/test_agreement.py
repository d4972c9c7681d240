"""The JSON Schemas and the service say the same of a document, in both directions; and no reason is a library's."""

import json
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from tests.schemas.documents import documents, neighbours

from headrace_schemas import Envelope, InvalidRecord
from headrace_schemas.codec import decode, decode_value, encode
from headrace_schemas.event_types import EVENTS, type_of
from headrace_schemas.examples import EXAMPLES
from headrace_schemas.jsonschema import build_json_schema
from headrace_schemas.times import parse_time


def is_time(value: str) -> bool:
    """What the service takes for `date-time`."""
    try:
        return bool(parse_time(value))
    except ValueError:
        return False


@cache
def validator(event_type: str) -> Draft202012Validator:
    schema = build_json_schema(next(event for event in EVENTS if event.name == event_type))
    return Draft202012Validator(schema, validate_formats=True, formats={"date-time": is_time})


# What JSON Schema cannot say: relations between two values. The descriptions say it.
BEYOND_SCHEMAS = (
    "is below min_words", "is below low", "comparisons: at most", "uncertain.criterion must be",
    "min_quality.criterion must be", "min_quality is given with cache",
    "json_schema: ", "labels and passing",
    "content is missing", "tool_call_id is given", "tool_calls are given", "tools names a tool twice",
    "tool_choice is given", "tool_choice names", "both output and tools", "names no call of a turn",
    "names a model twice", "names a format twice", "have a name twice", "before it: name each", "give each level one",
    "choices and levels in all",
)  # fmt: skip


# Words of pydantic's own messages, and of Python.
FOREIGN = ("Input should", "should have", "Value error", "Field required", "Extra inputs", "Tuple", "Dictionary")


def refusal(event_type: str, document: Any) -> str | None:
    try:
        decode_value(event_type, json.dumps(document).encode())
    except InvalidRecord as error:
        return str(error)
    return None


def assert_agreement(event_type: str, document: Any) -> bool:
    """Both take it or both refuse it, in our own words; whether the service refuses it."""
    reason = refusal(event_type, document)
    assert reason is None or reason.isprintable()
    assert not any(words in (reason or "") for words in FOREIGN)
    if reason is not None and any(words in reason for words in BEYOND_SCHEMAS):
        return True
    taken = validator(event_type).is_valid(document)
    assert taken == (reason is None), f"the service: {reason}; the schema {'takes' if taken else 'refuses'} {document}"
    return reason is not None


def assert_comes_back(event_type: str, document: Any) -> None:
    """An event is equal to what its own bytes say, with its envelope, and the schema takes these bytes."""
    event = decode_value(event_type, json.dumps(document).encode())
    envelope = Envelope(id="1", type=type_of(event), source="/test", time=datetime(2026, 1, 2, tzinfo=UTC))
    headers, value = encode(event, envelope)
    assert decode(headers, value) == (envelope, event)
    validator(event_type).validate(json.loads(value))


@pytest.mark.integration
@pytest.mark.parametrize("event_type", EXAMPLES)
def test_schema_and_service_agree_one_step_from_an_event_and_every_event_comes_back(event_type: str) -> None:
    for document in documents(event_type):
        assert_comes_back(event_type, document)
        near = list(islice(neighbours(document), 0, None, 3))
        refused = [assert_agreement(event_type, item) for item in near]
        assert 0.3 < sum(refused) / len(near) < 0.995  # the changes reach both verdicts
        for other, is_refused in zip(near, refused, strict=True):
            if not is_refused:
                assert_comes_back(event_type, other)
