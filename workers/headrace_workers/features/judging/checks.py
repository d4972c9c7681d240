"""Criteria that look at the output alone."""

from functools import cache
from typing import Any

from headrace_workers.features.judging.conforming import read_json
from headrace_workers.features.judging.unjudged import UnusablePattern


def contains(output: str, text: str, *, ignore_case: bool) -> float:
    """Return 1.0 when the output contains the text, else 0.0."""
    return float(text.casefold() in output.casefold() if ignore_case else text in output)


def regex(output: str, pattern: str) -> float:
    """Return 1.0 when the pattern (RE2: linear time, no look-around, no back-references) is found in the output, else
    0.0.

    Raises UnusablePattern for a pattern that RE2 refuses.
    """
    return float(compiled(pattern, _options()).search(output) is not None)


def compiled(pattern: str, options: Any) -> Any:
    """Return the compiled pattern. Raise UnusablePattern."""
    import re2

    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        problem = error.args[0] if error.args else "unknown error"
        detail = problem.decode(errors="replace") if isinstance(problem, bytes) else str(problem)
        raise UnusablePattern(f"the pattern is no RE2 regular expression: {detail}") from error


def quiet(**limits: int) -> Any:
    """Return options of RE2 that log nothing: errors in a user's pattern go to the user, not to stderr."""
    import re2

    options = re2.Options()
    options.log_errors = False
    for name, value in limits.items():
        setattr(options, name, value)
    return options


def json_valid(output: str) -> float:
    """Return 1.0 when the whole output is one JSON document (RFC 8259: no NaN, no Infinity), else 0.0.

    Raise TooDeep.
    """
    try:
        read_json(output)
    except ValueError:
        return 0.0
    return 1.0


def length(output: str, *, min_words: int, max_words: int | None) -> float:
    """Return 1.0 when the number of words, separated by white space, is within the bounds, else 0.0."""
    words = len(output.split())
    return float(words >= min_words and (max_words is None or words <= max_words))


@cache
def _options() -> Any:
    return quiet()
