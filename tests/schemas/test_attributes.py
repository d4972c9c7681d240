import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from headrace_producers import MemoryProducer
from headrace_schemas import GenerationJob, InvalidRecord
from headrace_schemas.attributes import Attributes, Filter, matches
from headrace_schemas.codec import decode_value, encode_value

FILTER: TypeAdapter[Any] = TypeAdapter(Filter)
ATTRIBUTES: TypeAdapter[Any] = TypeAdapter(Attributes)
DOCUMENT = {"language": "en", "year": 2026, "share": 0.5, "draft": False, "day": "2026-01-31", "count": "5"}


def compared(kind: str, key: str, value: Any) -> dict[str, Any]:
    return {"type": kind, "key": key, "value": value}


def lets_through(wanted: dict[str, Any], attributes: dict[str, Any] = DOCUMENT) -> bool:
    return matches(FILTER.validate_json(json.dumps(wanted), strict=True), attributes)


@pytest.mark.parametrize(
    ("kind", "key", "value", "expected"),
    [
        ("eq", "language", "en", True), ("eq", "language", "EN", False), ("ne", "language", "de", True),
        ("ne", "language", "en", False), ("eq", "year", 2026, True), ("eq", "year", 2026.0, True),
        ("eq", "year", "2026", False), ("ne", "year", "2026", True), ("eq", "count", 5, False),
        ("eq", "draft", False, True), ("eq", "draft", 0, False), ("ne", "draft", 0, True),
        ("eq", "missing", "x", False), ("ne", "missing", "x", True), ("gt", "year", 2025, True),
        ("gt", "year", 2026, False), ("gte", "year", 2026, True), ("lt", "year", 2026.5, True),
        ("lt", "year", 2026, False), ("lte", "year", 2026, True), ("lte", "share", 0.4, False),
        ("gt", "share", 0, True), ("gt", "day", "2026-01-30", True), ("lt", "day", "2026-01-30", False),
        ("gt", "count", 4, False), ("lt", "count", 4, False), ("gt", "draft", -1, False),
        ("gte", "draft", False, False), ("lt", "missing", 1, False), ("in", "language", ["de", "en"], True),
        ("in", "language", [], False), ("nin", "language", ["de"], True), ("nin", "language", ["en"], False),
        ("in", "draft", [0, "false"], False), ("nin", "missing", ["x"], True), ("in", "missing", ["x"], False),
        ("in", "year", [1, 2026.0], True),
    ],
)  # fmt: skip
def test_what_a_comparison_lets_through(kind: str, key: str, value: Any, expected: bool) -> None:
    assert lets_through(compared(kind, key, value)) is expected


@pytest.mark.parametrize(
    ("kind", "parts", "expected"),
    [
        ("and", [("year", 2026), ("language", "en")], True), ("and", [("year", 2026), ("language", "de")], False),
        ("or", [("year", 2025), ("language", "en")], True), ("or", [("year", 2025), ("language", "de")], False),
    ],
)  # fmt: skip
def test_all_or_one_of_several(kind: str, parts: list[tuple[str, Any]], expected: bool) -> None:
    wanted: dict[str, Any] = {"type": kind, "filters": [compared("eq", *part) for part in parts]}
    for _ in range(3):
        assert lets_through(wanted) is expected
        wanted = {"type": "and", "filters": [wanted]}


def test_nothing_is_guessed_of_a_document_without_attributes() -> None:
    """It is what it lacks, and nothing else."""
    assert not lets_through(compared("eq", "language", "en"), {})
    assert lets_through(compared("ne", "language", "en"), {})


def nested(depth: int, width: int = 1) -> dict[str, Any]:
    if not depth:
        return compared("eq", "k", 1)
    return {"type": "or", "filters": [nested(depth - 1, width)] * width}


JOB: dict[str, Any] = {"model": "m", "prompt": "p", "knowledge": "k"}
KINDS = "'eq', 'ne', 'gt', 'gte', 'lt', 'lte', 'in', 'nin'"


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (5, "knowledge_filter: must be an object, not a number"),
        ({}, "knowledge_filter.type: is missing"),
        ({"type": "not"}, f"knowledge_filter.type: must be one of {KINDS}, 'and', 'or'"),
        ({"type": "eq", "value": 1}, "knowledge_filter.key: is missing"),
        (compared("eq", "", 1), "knowledge_filter.key: is empty"),
        (compared("eq", "k" * 65, 1), "knowledge_filter.key: has more than 64 characters"),
        (compared("eq", "k", None), "knowledge_filter.value: must be text, a number, true or false, not null"),
        (compared("gt", "k", ["a"]), "knowledge_filter.value: must be text, a number, true or false, not a list"),
        (compared("eq", "k", "v" * 513), "knowledge_filter.value: has more than 512 characters"),
        (compared("eq", "k", 10**400), "knowledge_filter.value: must be a finite number"),
        (compared("in", "k", "a"), "knowledge_filter.value: must be a list, not text"),
        (compared("in", "k", ["a", None]), "knowledge_filter.value.1: must be text, a number, true or false, not null"),
        (compared("in", "k", ["a"] * 65), "knowledge_filter.value: at most 64 values, not 65"),
        (compared("eq", "k", 1) | {"more": 1}, "knowledge_filter.'more': is no field that is known here"),
        (
            {"type": "and", "filters": []},
            "knowledge_filter.filters: holds no filter: leave it out, or compare something",
        ),
        ({"type": "or", "filters": [nested(0)] * 17}, "knowledge_filter.filters: at most 16 filters, not 17"),
        ({"type": "or", "filters": [5] * 100_000}, "knowledge_filter.filters.0: must be an object, not a number"),
        (nested(4), f"knowledge_filter.filters.0.filters.0.filters.0.type: must be one of {KINDS}"),
        (nested(2, 9), "knowledge_filter: holds 81 comparisons: at most 64 in all"),
    ],
)  # fmt: skip
def test_what_is_no_filter_is_told_in_words(wanted: Any, reason: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        decode_value("headrace.job.generation.v1", json.dumps(JOB | {"knowledge_filter": wanted}).encode())
    assert str(caught.value) == reason


def test_a_filter_of_nothing_is_refused() -> None:
    """It would be ignored, although its author relies on it."""
    with pytest.raises(InvalidRecord, match="knowledge_filter is given without knowledge"):
        decode_value(
            "headrace.job.generation.v1",
            json.dumps({"model": "m", "prompt": "p", "knowledge_filter": nested(0)}).encode(),
        )


def test_a_filter_comes_back_as_it_was() -> None:
    values = [1, 2.5, True, "1", -0.0, 2**53, 1e200]
    job = GenerationJob.model_validate(JOB | {"knowledge_filter": compared("in", "k", values)})
    again = decode_value("headrace.job.generation.v1", encode_value(job))
    assert isinstance(again, GenerationJob)
    kept = again.knowledge_filter.value  # type: ignore[union-attr]
    assert list(kept) == values
    assert [type(item) for item in kept] == [int, float, bool, str, int, int, float]
    assert encode_value(again) == encode_value(job)


@pytest.mark.parametrize(
    "attributes",
    [
        {"k" * 65: 1}, {"": 1}, {"k": None}, {"k": [1]}, {"k": {"a": 1}}, {"k": "v" * 513}, {"k": "\0"},
        {"k": float("nan")}, {"k": float("inf")}, {f"k{n}": n for n in range(17)},
    ],
)  # fmt: skip
def test_what_can_be_no_attributes(attributes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ATTRIBUTES.validate_python(attributes)


def test_a_producer_takes_a_filter_as_it_stands_on_the_wire() -> None:
    wanted = compared("gte", "year", 2025)
    producer = MemoryProducer()
    for entry in (wanted, FILTER.validate_python(wanted)):
        producer.generate(prompt="p", knowledge="k", knowledge_filter=entry, model="m")
    first, second = (json.loads(record.value)["knowledge_filter"] for record in producer.records)
    assert first == second == wanted
