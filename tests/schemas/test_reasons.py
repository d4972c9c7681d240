import json
from datetime import date, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from headrace_producers import MemoryProducer
from headrace_producers.errors import InvalidJob
from headrace_schemas import GenerationJob, InvalidRecord
from headrace_schemas.codec import decode_value
from headrace_schemas.reasons import describe, first_problem, words_of

GENERATION = "headrace.job.generation.v1"
GOOD: dict[str, Any] = {"model": "m", "prompt": "p"}


def reason_of(value: bytes, event_type: str = GENERATION) -> str:
    with pytest.raises(InvalidRecord) as caught:
        decode_value(event_type, value)
    return str(caught.value)


TIME = "must be an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z"
NO_DAY = "is no day or time that there is (day is out of range for month)"
ALIAS = "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
KINDS = (
    "'exact_match', 'f1', 'chrf', 'bleu', 'gleu', 'rouge', 'fuzzy_match', 'cosine', 'contains', 'regex', 'json_valid', "
    "'json_schema', 'language', 'length', 'rubric', 'pairwise', 'grounded'"
)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model": None}, "model: is missing"),
        ({"model": []}, "model: at least 1 of models"),
        ({"model": ["a"] * 9}, "model: at most 8 models, not 9"),
        ({"model": ["a", "b", "a"]}, "model names a model twice: name each once"),
        ({"model": ["a", 5]}, "model.1: must be text, not a number"),
        ({"prompt": None}, "neither prompt nor messages is given: a job needs one of them"),
        (
            {"messages": [{"role": "user", "content": "c"}]},
            "both prompt and messages are given: a job takes one of them",
        ),
        (
            {"without_passages": "answer"},
            "without_passages is given without knowledge: name the base that passages come from",
        ),
        ({"model": "A B"}, f"model: {ALIAS}; '@' and a label or a version may follow an application's name"),
        ({"tenant": "a b"}, f"tenant: {ALIAS.replace('a-z', 'A-Z, a-z')}"),
        ({"prompt": "a\0"}, "prompt: holds the character NUL (U+0000), which no database takes as text"),
        ({"prompt": ""}, "prompt: is empty"),
        ({"prompt": 5}, "prompt: must be text, not a number"),
        ({"prompt": "x" * 200_001}, "prompt: has more than 200000 characters"),
        ({"idempotency_key": "k" * 257}, "idempotency_key: has more than 256 characters"),
        ({"lane": "fast"}, "lane: must be 'interactive' or 'batch'"),
        ({"priority": 10}, "priority: must be at most 9"),
        ({"priority": -1}, "priority: must be at least 0"),
        ({"priority": "5"}, "priority: must be a whole number, not text"),
        ({"priority": 5.5}, "priority: must be a whole number"),
        ({"priority": True}, "priority: must be a whole number, not true or false"),
        ({"priority": 10**300}, "priority: must be at most 9"),
        ({"sampling": {"top_p": 0}}, "sampling.top_p: must be greater than 0"),
        ({"sampling": {"seed": 2**32}}, "sampling.seed: must be less than 4294967296"),
        ({"sampling": {"temperature": "hot"}}, "sampling.temperature: must be a number, not text"),
        ({"sampling": {"stop": "x"}}, "sampling.stop: must be a list, not text"),
        ({"sampling": {"stop": ["x"] * 9}}, "sampling.stop: at most 8 texts, not 9"),
        ({"sampling": []}, "sampling: must be an object, not a list"),
        ({"max_tokens": 5}, "max_tokens: is no field here: it belongs in `sampling`"),
        ({"colour": "red"}, "'colour': is no field that is known here"),
        ({"output": "json"}, "output: must be an object, not text"),
        ({"output": {}}, "output.type: is missing"),
        (
            {"output": {"type": "xml"}},
            "output.type: must be one of 'json_schema', 'json_object', 'choice', 'regex', 'grammar'",
        ),
        ({"output": {"type": "json_schema", "json_schema": []}}, "output.json_schema: must be an object, not a list"),
        ({"output": {"type": "choice", "choices": [""]}}, "output.choices.0: is empty"),
        (
            {"tools": [{"name": "a b"}]},
            "tools.0.name: must be 1 to 64 of A-Z, a-z, 0-9, '_' and '-'",
        ),
        (
            {"tools": [{"name": "f"}], "tool_choice": "any"},
            "tool_choice: must be 'none', 'auto' or 'required'; tool_choice: must be an object, not text",
        ),
        ({"sampling": {"colour": 1}}, "sampling.'colour': is no field that is known here"),
        ({"metadata": {"": "x"}}, "metadata: a key is empty"),
        ({"metadata": {"a": 5}}, "metadata.a: must be text, not a number"),
        ({"metadata": {"My 'own' words": 5}}, "metadata.'My ’own’ words': must be text, not a number"),
        ({"metadata": {str(n): "" for n in range(33)}}, "metadata: at most 32 entries"),
        ({"criteria": {}}, "criteria: must be a list, not an object"),
        ({"criteria": [{"criterion": "f1"}] * 17}, "criteria: at most 16 criteria, not 17"),
        ({"criteria": [5]}, "criteria.0: must be an object, not a number"),
        ({"criteria": [{}]}, "criteria.0.criterion: is missing"),
        ({"criteria": [{"criterion": "taste"}]}, f"criteria.0.criterion: must be one of {KINDS}"),
        ({"criteria": [{"criterion": "contains"}]}, "criteria.0.text: is missing"),
        (
            {"criteria": [{"criterion": "language", "language": "English"}]},
            "criteria.0.language: must be a language's code of ISO 639: two or three small letters",
        ),
        ({"criteria": [{"criterion": "f1"}, {"criterion": "regex", "pattern": ""}]}, "criteria.1.pattern: is empty"),
        (
            {"criteria": [{"criterion": "exact_match", "ignore_case": 1}]},
            "criteria.0.ignore_case: must be true or false, not a number",
        ),
        (
            {"criteria": [{"criterion": "length", "min_words": 5, "max_words": 2}]},
            "criteria.0: max_words (2) is below min_words (5)",
        ),
        ({"criteria": [{"criterion": "f1", "share": 0}]}, "criteria.0.share: must be greater than 0"),
        (
            {"criteria": [{"criterion": "f1", "uncertain": {"criterion": "bleu", "low": 0.5, "high": 0.25}}]},
            "criteria.0.uncertain: high (0.25) is below low (0.5)",
        ),
        (
            {"min_quality": {"criterion": "f1", "value": 0.5}},
            "min_quality.criterion must be the name, or kind, of one of the criteria, by which all jobs are judged",
        ),
        (
            {"min_quality": {"criterion": "f1", "value": 0.5}, "criteria": [{"criterion": "f1", "share": 0.5}]},
            "min_quality.criterion must be the name, or kind, of one of the criteria, by which all jobs are judged",
        ),
        (
            {"min_quality": {"criterion": "f1", "value": 0.5}, "criteria": [{"criterion": "f1"}, {"criterion": "f1"}]},
            "min_quality.criterion must be the name, or kind, of one of the criteria, by which all jobs are judged",
        ),
        (
            {"min_quality": {"criterion": "f1", "value": 0.5}, "criteria": [{"criterion": "f1"}], "cache": "exact"},
            "min_quality is given with cache: an answer with a floor is made anew; leave one of them out",
        ),
        (
            {"min_quality": {"criterion": "f1", "value": 0, "attempts": 4, "then": "x"}},
            "min_quality.value: must be greater than 0; min_quality.then: must be 'regenerate', 'next', 'hold' or "
            "'accept'; "
            "min_quality.attempts: must be at most 3",
        ),
        (
            {"criteria": [{"criterion": "f1", "uncertain": {"criterion": "bleu"}}]},
            "uncertain.criterion must be the name, or kind, of one other criterion of the job that is always judged",
        ),
        ({"deadline": 1_800_000_000}, f"deadline: {TIME}"),
        ({"deadline": "1800000000"}, f"deadline: {TIME}"),
        ({"deadline": "2026-01-01T00:00:00"}, f"deadline: {TIME}"),
        ({"deadline": "2026-02-30T00:00:00Z"}, f"deadline: {NO_DAY}"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_told_in_words(fields: dict[str, Any], reason: str) -> None:
    given_fields = GOOD | fields
    if fields.get("prompt", "") is None:
        del given_fields["prompt"]
    assert reason_of(json.dumps(given_fields).encode()) == reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "value: is empty"),
        (b" \r\n", "value: is empty"),
        (b"[]", "value: must be an object, not a list"),
        (b"null", "value: must be an object, not null"),
        (b'{"model": "m",\r\n "prompt": "p",\r\n}', "value: is not JSON: trailing comma at line 3 column 1"),
        (b'{"model": "m"', "value: is not JSON: EOF while parsing an object at line 1 column 13"),
        (b"\xef\xbb\xbf{}", "value: begins with a byte order mark: send UTF-8 without one"),
        ("{}".encode("utf-16"), "value: is UTF-16, and must be UTF-8"),
        ("{}".encode("utf-16-le"), "value: is UTF-16, and must be UTF-8"),
        (b'{"model": "m", "prompt": "gr\xfcn"}', "value: is not UTF-8: invalid unicode code point at line 1 column 29"),
        (b"[" * 100_000, "value: is nested too deeply: recursion limit exceeded at line 1 column 202"),
        (
            b'{"model": "m", "prompt": "p", "priority": ' + b"9" * 5_000 + b"}",
            "value: is not JSON: number out of range at line 1 column 4344",
        ),
    ],
)
def test_what_is_no_json_is_told_with_its_place(value: bytes, reason: str) -> None:
    """The line and column where reading ended, and the encodings that people meet most."""
    assert reason_of(value) == reason


@pytest.mark.parametrize(
    ("criteria", "reason"),
    [
        ([{"criterion": "taste"}], f"criteria.0.criterion: must be one of {KINDS}"),
        ([{"criterion": "regex"}], "criteria.0.pattern: is missing"),
        ([], "criteria: at least 1 of criteria"),
    ],
)
def test_a_list_is_too_short_by_what_it_lacks_and_not_by_what_is_wrong(criteria: list[Any], reason: str) -> None:
    """An evaluation needs a criterion. One that is there and wrong is told of, and nothing else is."""
    value = {"input": "q", "output": "a", "criteria": criteria}
    assert reason_of(json.dumps(value).encode(), "headrace.job.evaluation.v1") == reason


def test_several_problems_are_all_told_up_to_five() -> None:
    reason = reason_of(json.dumps({"priority": "high", **dict.fromkeys("abcdefg", 1)}).encode())
    assert reason.startswith("priority: must be a whole number, not text; 'a': is no field")
    assert reason.endswith("(and 3 more)")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ('"messages": [' + ", ".join(["1"] * 100_000) + "]", "messages.0: must be an object, not a number"),
        ('"criteria": [' + ", ".join(["1"] * 100_000) + "]", "criteria.0: must be an object, not a number"),
        ('"sampling": {"stop": [' + ", ".join(["1"] * 100_000) + "]}", "sampling.stop.0: must be text, not a number"),
        (
            ", ".join(f'"{number}": 1' for number in range(50_000)),
            "value: has 50000 things wrong with it, too many to name: is it a GenerationJob?",
        ),
    ],
)  # fmt: skip
def test_a_flood_of_problems_is_one(fields: str, reason: str) -> None:
    """Naming each of them would take seconds, in which no other record is read."""
    assert reason_of(b'{"model": "m", "prompt": "p", ' + fields.encode() + b"}") == reason


def test_names_are_shown_short_and_printable() -> None:
    name = "a\n\x1b[31m" + "x" * 500
    reason = reason_of(json.dumps(GOOD | {name: 1}).encode())
    assert reason.isprintable()
    assert len(reason) < 120


def test_a_producer_tells_the_same() -> None:
    producer = MemoryProducer()
    with pytest.raises(InvalidJob, match=r"^GenerationJob: neither prompt nor messages is given"):
        producer.generate()
    with pytest.raises(InvalidJob, match=r"^Sampling: temperature: must be at most 2$"):
        producer.generate(prompt="p", temperature=3)
    with pytest.raises(InvalidJob, match=r"deadline: has no time zone"):
        producer.generate(prompt="p", deadline=datetime(2126, 1, 1))


def test_an_error_that_the_table_lacks_is_still_told() -> None:
    with pytest.raises(ValidationError) as caught:
        GenerationJob(model="m", prompt="p", sampling=5)
    error = caught.value
    assert describe(error) == "sampling: must be an object, not a number"


@pytest.mark.parametrize(
    ("document", "place", "words"),
    [
        (b'{"model": "m", "prompt": ""}', ("prompt",), "is empty"),
        (
            b'{"model": "m", "prompt": "p", "sampling": {"stop": [1]}}',
            ("sampling", "stop", 0),
            "must be text, not a number",
        ),
        (b'{"model": "m", "prompt": "p", "priority": 10, "x": 1}', ("priority",), "must be at most 9"),
        (b'{"model": "m"}', (), "neither prompt nor messages is given: a job needs one of them"),
        (b"{", None, "value: is not JSON: EOF while parsing an object at line 1 column 1"),
    ],
)
def test_the_first_problem_has_a_place_and_words(document: bytes, place: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        GenerationJob.model_validate_json(document, strict=True)
    assert first_problem(caught.value, document) == (place, words)


@pytest.mark.parametrize("kind", ["embedding", "moderation"])
def test_only_who_is_answered_is_sent_to_sampling(kind: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        decode_value(f"headrace.job.{kind}.v1", b'{"model": "m", "input": "i", "temperature": 1}')
    assert str(caught.value) == "temperature: is no field that is known here"


@pytest.mark.parametrize("said", ["nope", "2026-02-30", "2026-01-31T12:00:00Z", ""])
def test_a_day_that_is_none_is_told_with_one_that_is(said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(date).validate_python(said)
    assert words_of(raised.value.errors()[0]) == "must be a day, such as 2026-01-31"
