"""Patterns of criteria, looked at by the doors: else each score would say that it is none, after the model ran."""

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from headrace_schemas.criteria import Regex
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.job import AnyJob, JudgedJob
from headrace_workers.judging.checks import compiled, quiet
from headrace_workers.judging.unjudged import UnusablePattern

_MEMORY: Final = 65_536  # bytes of one that is compiled: what needs more takes time that no door has
_MOST: Final = 2_000  # characters of all of a job's, for the same reason
_TOO_LARGE: Final = "too large"  # as RE2 says it


def has_patterns(job: AnyJob) -> bool:
    """Whether there is something to look at."""
    return isinstance(job, JudgedJob) and any(isinstance(each, Regex) for each in job.criteria)


def check_patterns(job: AnyJob) -> None:
    """InvalidRecord names the first criterion whose pattern RE2 cannot read. What is too much to be looked at here is
    left to the judge.
    """
    if not isinstance(job, JudgedJob):
        return
    left = _MOST
    for number, each in enumerate(job.criteria):
        if not isinstance(each, Regex):
            continue
        left -= len(each.pattern)
        if left < 0:
            return
        try:
            compiled(each.pattern, _options())
        except UnusablePattern as error:
            if _TOO_LARGE not in str(error):
                raise InvalidRecord(f"criteria.{number}.pattern: {error}") from error


def check_all(jobs: Iterable[AnyJob]) -> None:
    """The same of many."""
    for job in jobs:
        check_patterns(job)


@cache
def _options() -> Any:
    return quiet(max_mem=_MEMORY)
