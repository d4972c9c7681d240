"""Criteria that look at the output alone: its text, its language, and a JSON Schema."""

import json
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from headrace_workers.features.judging.scores import NotCovered, TooDeep, Unsure, UnusablePattern, UnusableSchema

if TYPE_CHECKING:
    from headrace_workers.models.structured.json_schema import BoundedCheck

_DIGITS: Final = 4_000  # of a whole number; Python reads none of more than 4,300
# Of one pattern when it is compiled. Matching takes time by its size and by the text's: with 1,000,000 a hostile one
# took a second for 20,000 characters.
_PATTERN_BYTES: Final = 100_000
_LONGEST_NOTE: Final = 300  # characters
_MASK: Final = "it"  # in place of the value: a document may be long, and is in the receipt already


def read_json(output: str) -> Any:
    """Return the whole output as a JSON document (RFC 8259: no NaN, no Infinity). Raise ValueError, or TooDeep."""
    try:
        return json.loads(output, parse_constant=_refuse, parse_int=_whole)
    except RecursionError as error:
        raise TooDeep("the output is nested too deeply to be checked as JSON") from error


def json_schema(output: str, schema: dict[str, Any]) -> tuple[float, str | None]:
    """Return 1.0 when the output is a document that conforms, else 0.0 with the first fault. Raises UnusableSchema, and
    TooDeep for a document.
    """
    check = compiled_schema(schema)
    try:
        document = read_json(output)
    except ValueError:
        return 0.0, "it is no JSON document"
    fault = first_fault(check, document)
    return (1.0, None) if fault is None else (0.0, fault)


def compiled_schema(schema: dict[str, Any]) -> "BoundedCheck":
    """Return the check that `first_fault` uses. Raise UnusableSchema."""
    import jsonschema_rs

    from headrace_workers.models.structured.json_schema import BoundedCheck

    try:
        validator = jsonschema_rs.validator_for(
            schema,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES),
            offline=True,
            mask=_MASK,
        )
        return BoundedCheck(validator, schema)
    except jsonschema_rs.ValidationError as error:
        raise UnusableSchema(f"the schema cannot be used: {_message_of(error)}") from error
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        raise UnusableSchema(f"the schema cannot be used: {str(error)[:_LONGEST_NOTE]}") from error


def first_fault(check: "BoundedCheck", document: Any) -> str | None:
    """Return the first fault of a document, without its value; None where it conforms. Raise TooDeep."""
    import jsonschema_rs

    from headrace_workers.models.structured.json_schema import TooCostly, Unexplained

    try:
        check.run(document)  # the first fault alone: all of them may be as many as the document has places
    except jsonschema_rs.ValidationError as error:
        return _message_of(error)
    except TooCostly as error:
        raise TooDeep("the output has too many levels to be checked by a schema") from error
    except Unexplained:
        return "it does not keep to the schema"
    except ValueError as error:
        raise TooDeep("the output is nested too deeply to be checked by a schema") from error
    return None


def _message_of(error: Any) -> str:
    """Return the place and the kind of a fault in a document, or in a schema."""
    where = "".join(f"/{step}" for step in error.instance_path) or "the whole"
    return f"{where}: {error.message.strip().splitlines()[0]}"[:_LONGEST_NOTE]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _DIGITS else Decimal(digits)


def contains(output: str, text: str, *, ignore_case: bool) -> float:
    """Return 1.0 when the output contains the text, else 0.0."""
    return float(text.casefold() in output.casefold() if ignore_case else text in output)


def regex(output: str, pattern: str) -> float:
    """Return 1.0 when the pattern (RE2) is found in the output, else 0.0. Raises UnusablePattern."""
    return float(compiled_pattern(pattern, _options()).search(output) is not None)


def compiled_pattern(pattern: str, options: Any) -> Any:
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
    """Return 1.0 when the whole output is one JSON document (RFC 8259), else 0.0. Raise TooDeep."""
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


_ODDS: Final = 4.0  # how much likelier the language must be than the next, or that than it, before anything is said
_MOST_READ: Final = 2_000  # characters: of long texts that say the same again the model becomes less sure


def language(output: str, wanted: str) -> float:
    """Return 1.0 when the output is in that language (ISO 639), else 0.0. Raises NotCovered for a language that the
    model does not know, and Unsure where two are nearly as likely.
    """
    model = _model()
    if wanted not in model.labels:
        raise NotCovered(f"the language {wanted} is not known here: it may be {', '.join(sorted(model.labels))}")
    found: dict[str, float] = dict(model.rank(output[:_MOST_READ]))
    mine = found.pop(wanted)
    other = max(probability for name, probability in found.items() if len(name) == 2)
    if mine >= _ODDS * other:
        return 1.0
    if other >= _ODDS * mine:
        return 0.0
    raise Unsure("the output's language cannot be told: it is too short, mixed, or in none")


@cache
def _model() -> Any:
    """Load the model at the first question: it takes some 100 MB, and half a second."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
