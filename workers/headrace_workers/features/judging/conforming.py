"""Outputs checked against a JSON Schema."""

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from headrace_workers.features.judging.unjudged import TooDeep, UnusableSchema

if TYPE_CHECKING:
    from headrace_workers.features.generation.structured.json_schema import BoundedCheck

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
    """Return 1.0 when the output is a document that conforms, else 0.0 with the first fault.

    Nothing is fetched: references lead into the schema alone. Patterns are matched in linear time. Raises
    UnusableSchema, and TooDeep for a document.
    """
    check = compiled(schema)
    try:
        document = read_json(output)
    except ValueError:
        return 0.0, "it is no JSON document"
    fault = first_fault(check, document)
    return (1.0, None) if fault is None else (0.0, fault)


def compiled(schema: dict[str, Any]) -> "BoundedCheck":
    """Return the check that `first_fault` uses. Raise UnusableSchema."""
    import jsonschema_rs

    from headrace_workers.features.generation.structured.json_schema import BoundedCheck

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
    """Return the first fault of a document, with its place and without its value; None where it conforms.

    Raise TooDeep.
    """
    import jsonschema_rs

    from headrace_workers.features.generation.structured.json_schema import TooCostly, Unexplained

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
