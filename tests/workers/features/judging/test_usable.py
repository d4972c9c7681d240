from typing import Any

import pytest

from headrace_schemas import EvaluationJob, InvalidRecord, ModerationJob
from headrace_schemas.criteria import Contains, JsonSchema, Regex
from headrace_workers.features.judging import checks
from headrace_workers.features.judging.admission import CriteriaCheck, check_usable
from headrace_workers.features.judging.scores import UnusableSchema


def judged(*patterns: str) -> EvaluationJob:
    """A job that is judged by these, and by something else before."""
    criteria = (
        Contains(text="a"),
        *(Regex(pattern=pattern, name=f"p{number}") for number, pattern in enumerate(patterns)),
    )
    return EvaluationJob(input="i", output="o", criteria=criteria)


@pytest.mark.parametrize("pattern", ["("])
def test_what_is_no_pattern_is_refused_by_its_place(pattern: str):
    with pytest.raises(InvalidRecord, match=r"^criteria\.2\.pattern: the pattern is no RE2 regular expression: "):
        check_usable(judged("fine", pattern))


@pytest.mark.parametrize("pattern", [r"^(yes|no)$", r"(\pL{30}){30}", r"\pL" * 600, "a{1000}" * 200])
def test_what_is_one_is_taken_and_what_is_too_large_is_left_to_the_judge(pattern: str):
    check_usable(judged(pattern))


def test_many_are_not_all_looked_at():
    check_usable(judged("a" * 1_990, "b" * 20, "("))
    with pytest.raises(InvalidRecord, match=r"criteria\.3\.pattern"):
        check_usable(judged("a" * 1_990, "b", "("))


def by_schema(*schemas: dict[str, Any]) -> EvaluationJob:
    criteria = (JsonSchema(json_schema=schema, name=f"s{number}") for number, schema in enumerate(schemas))
    return EvaluationJob(input="i", output="o", criteria=tuple(criteria))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "text"},
        {"items": {"patternProperties": {"[": {}}}},
    ],
)
def test_what_is_no_schema_is_refused_by_its_place(schema: dict[str, Any]):
    """Its own, among all criteria; what the judge could not use, it never sees."""
    with pytest.raises(UnusableSchema):
        checks.compiled_schema(schema)
    with pytest.raises(InvalidRecord, match=r"^criteria\.1\.json_schema: the schema cannot be used: "):
        check_usable(by_schema({"type": "object", "properties": {"a": {"pattern": "^[a-z]+$"}}}, schema))


def test_schemas_of_many_patterns_are_left_to_the_judge():
    wrong = {"pattern": "("}
    check_usable(by_schema({"properties": {str(n): {"pattern": "a" * 50} for n in range(10)}}, wrong))
    with pytest.raises(InvalidRecord, match=r"criteria\.1\.json_schema"):
        check_usable(by_schema({"properties": {str(n): {"pattern": "a" * 50} for n in range(9)}}, wrong))


def test_who_has_none_is_not_asked():
    assert CriteriaCheck().is_doubtful(judged("a"))
    assert CriteriaCheck().is_doubtful(by_schema({}))
    assert not CriteriaCheck().is_doubtful(judged())
    assert not CriteriaCheck().is_doubtful(ModerationJob(input="a"))
    check_usable(ModerationJob(input="a"))
