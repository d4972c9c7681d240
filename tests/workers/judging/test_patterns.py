"""Patterns at a door."""

import pytest

from headrace_schemas import EvaluationJob, InvalidRecord, ModerationJob
from headrace_schemas.criteria import Contains, Regex
from headrace_workers.judging.patterns import check_patterns, has_patterns


def judged(*patterns: str) -> EvaluationJob:
    """A job that is judged by these, and by something else before."""
    criteria = (Contains(text="a"), *(Regex(pattern=each, name=f"p{number}") for number, each in enumerate(patterns)))
    return EvaluationJob(input="i", output="o", criteria=criteria)


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "[z-a]", "a{5000}"])
def test_what_is_no_pattern_is_refused_by_its_place(pattern: str):
    """Its own, among all criteria."""
    with pytest.raises(InvalidRecord, match=r"^criteria\.2\.pattern: the pattern is no RE2 regular expression: "):
        check_patterns(judged("fine", pattern))


@pytest.mark.parametrize("pattern", [r"^(yes|no)$", r"(\pL{30}){30}", r"\pL" * 600, "a{1000}" * 200])
def test_what_is_one_is_taken_and_what_is_too_large_is_left_to_the_judge(pattern: str):
    """To compile that takes time that belongs to all who send."""
    check_patterns(judged(pattern))


def test_many_are_not_all_looked_at():
    """What is behind 2,000 characters is left to the judge."""
    check_patterns(judged("a" * 1_990, "b" * 20, "("))
    with pytest.raises(InvalidRecord, match=r"criteria\.3\.pattern"):
        check_patterns(judged("a" * 1_990, "b", "("))


def test_who_has_none_is_not_asked():
    """Most jobs."""
    assert has_patterns(judged("a"))
    assert not has_patterns(judged())
    assert not has_patterns(ModerationJob(input="a"))
    check_patterns(ModerationJob(input="a"))
