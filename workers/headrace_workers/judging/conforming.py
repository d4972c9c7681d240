"""Whether an output is a JSON document that keeps to a JSON Schema."""

import json
from decimal import Decimal
from typing import Any, Final

from headrace_workers.judging.unjudged import TooDeep, UnusableSchema

_DIGITS: Final = 4_000  # of a whole number; Python reads none of more than 4,300
_PATTERN_BYTES: Final = 1_000_000  # of one pattern when it is compiled
_LONGEST_NOTE: Final = 300  # characters
_MASK: Final = "it"  # in place of the value: a document may be long, and is in the receipt already


def read_json(output: str) -> Any:
    """The document that the whole output is (RFC 8259: no NaN, no Infinity). ValueError when it is none; TooDeep."""
    try:
        return json.loads(output, parse_constant=_refuse, parse_int=_whole)
    except RecursionError as error:
        raise TooDeep("the output is nested too deeply to be checked as JSON") from error


def json_schema(output: str, schema: dict[str, Any]) -> tuple[float, str | None]:
    """1.0 when the output is a document that conforms, else 0.0 with what is wrong first.

    Nothing is fetched: references lead into the schema alone. Patterns are matched in linear time. Raises
    UnusableSchema, and TooDeep for a document.
    """
    import jsonschema_rs

    try:
        validator = jsonschema_rs.validator_for(
            schema,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES),
            offline=True,
            mask=_MASK,
        )
    except jsonschema_rs.ValidationError as error:
        raise UnusableSchema(f"the schema cannot be used: {_told(error)}") from error
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        raise UnusableSchema(f"the schema cannot be used: {str(error)[:_LONGEST_NOTE]}") from error
    try:
        document = read_json(output)
    except ValueError:
        return 0.0, "it is no JSON document"
    try:
        if validator.is_valid(document):
            return 1.0, None
    except ValueError as error:
        raise TooDeep("the output is nested too deeply to be checked by a schema") from error
    try:
        validator.validate(document)  # the first fault alone: all of them may be as many as the document has places
    except jsonschema_rs.ValidationError as error:
        return 0.0, _told(error)
    except ValueError:  # a number in it has more digits than Python writes
        return 0.0, "it does not keep to the schema"
    raise AssertionError("a document that is not valid has a fault")


def _told(error: Any) -> str:
    """Where it is wrong, and how: of a document, or of a schema."""
    where = "".join(f"/{step}" for step in error.instance_path) or "the whole"
    return f"{where}: {error.message.strip().splitlines()[0]}"[:_LONGEST_NOTE]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _DIGITS else Decimal(digits)
