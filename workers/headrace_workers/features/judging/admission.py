"""Admission of criteria: a job's criteria must be usable. Else each score would say so after the model ran."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from headrace_schemas.criteria import Criterion, JsonSchema, Regex
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.job import AnyJob, JudgedJob
from headrace_workers.core.admission import AdmissionCheck
from headrace_workers.features.judging import checks
from headrace_workers.features.judging.checks import compiled_pattern, quiet
from headrace_workers.features.judging.scores import UnusablePattern, UnusableSchema

_MEMORY: Final = 65_536  # bytes of a pattern that is compiled: larger ones take time that admission does not have
_MOST: Final = 2_000  # characters of all patterns of a job's, for the same reason
_MOST_IN_SCHEMAS: Final = 500  # of those in schemas, which take longer
_TOO_LARGE: Final = "too large"  # as RE2 says it


def check_usable(job: AnyJob) -> None:
    """Raise InvalidRecord, which names the first of the job's criteria that cannot be used."""
    if isinstance(job, JudgedJob):
        check_criteria(job.criteria)


def check_criteria(criteria: Sequence[Criterion]) -> None:
    """Raise InvalidRecord, which names the first criterion that cannot be used: a pattern that RE2 cannot read, or a
    wrong schema. Criteria that are too large to be checked here are left to the judge.
    """
    left, left_in_schemas = _MOST, _MOST_IN_SCHEMAS
    for number, criterion in enumerate(criteria):
        if isinstance(criterion, Regex):
            left -= len(criterion.pattern)
            if left >= 0:
                _check_pattern(criterion.pattern, number)
        elif isinstance(criterion, JsonSchema):
            left_in_schemas -= _characters_of_patterns(criterion.json_schema)
            if left_in_schemas >= 0:
                _check_schema(criterion.json_schema, number)


def _check_pattern(pattern: str, number: int) -> None:
    try:
        compiled_pattern(pattern, _bounded_options())
    except UnusablePattern as error:
        if _TOO_LARGE not in str(error):
            raise InvalidRecord(f"criteria.{number}.pattern: {error}") from error


def _check_schema(schema: dict[str, Any], number: int) -> None:
    try:
        checks.compiled_schema(schema)
    except UnusableSchema as error:
        raise InvalidRecord(f"criteria.{number}.json_schema: {error}") from error


def _characters_of_patterns(node: Any) -> int:
    """Of all regular expressions in a schema, whose depth is bounded."""
    if isinstance(node, list):
        return sum(map(_characters_of_patterns, node))
    if not isinstance(node, dict):
        return 0
    pattern, named = node.get("pattern"), node.get("patternProperties")
    own = (len(pattern) if isinstance(pattern, str) else 0) + (sum(map(len, named)) if isinstance(named, dict) else 0)
    return own + sum(map(_characters_of_patterns, node.values()))


@cache
def _bounded_options() -> Any:
    return quiet(max_mem=_MEMORY)


class CriteriaCheck(AdmissionCheck):
    """The check of criteria, which hostile ones make long."""

    def is_doubtful(self, job: AnyJob) -> bool:
        """Return True where the job has a pattern or a schema."""
        return isinstance(job, JudgedJob) and any(
            isinstance(criterion, Regex | JsonSchema) for criterion in job.criteria
        )

    def examine(self, job: AnyJob) -> None:
        """Raise InvalidRecord, which names the first of the job's criteria that cannot be used."""
        check_usable(job)
