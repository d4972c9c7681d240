"""Whether an answer has the format that its job asks for. Pure."""

import json
import re
from typing import Any, NoReturn

import jsonschema_rs
from llguidance import LLMatcher, LLTokenizer

from headrace_schemas.errors import Unparsable
from headrace_schemas.events import FinishReason
from headrace_schemas.output_format import (
    ChoiceFormat,
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    OutputFormat,
    RegexFormat,
)


class _NoJson(ValueError):
    """Text that is no JSON value, or one that readers take for different values."""


def failure_of(output: OutputFormat, text: str, finish_reason: FinishReason) -> Unparsable | None:
    """Return the failure of an answer that does not have the format; None for one that has it."""
    found = _failure(output, text)
    if found is None or finish_reason != "length":
        return found
    return Unparsable(f"the answer was cut off: {found}", "truncated", found.place)


def _failure(output: OutputFormat, text: str) -> Unparsable | None:
    match output:
        case ChoiceFormat(choices=choices):
            return None if text in choices else Unparsable("the answer is none of the choices")
        case RegexFormat(pattern=pattern):
            return None if re.fullmatch(pattern, text) else Unparsable("the regular expression does not match")
        case GrammarFormat():
            return _by_grammar(output, text)
        case _:
            return _by_schema(output, text)


def _by_grammar(output: GrammarFormat, text: str) -> Unparsable | None:
    matcher = LLMatcher(LLTokenizer("byte"), LLMatcher.grammar_from_lark(output.grammar))
    value = text.encode("utf-8", "surrogatepass")
    taken = matcher.try_consume_tokens(list(value))
    if taken < len(value):
        place = str(len(value[:taken].decode(errors="ignore")))
        return Unparsable("the grammar does not derive the answer", place=place)
    return None if matcher.is_accepting() else Unparsable("the answer ends too early", place=str(len(text)))


def _by_schema(output: JsonSchemaFormat | JsonObjectFormat, text: str) -> Unparsable | None:
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        return Unparsable(f"the answer is not JSON: {error.msg}", place=str(error.pos))
    except (_NoJson, RecursionError, ValueError) as error:
        return Unparsable(f"the answer is not JSON: {error}")
    if isinstance(output, JsonObjectFormat):
        return None if isinstance(value, dict) else Unparsable("the answer is no JSON object", place="")
    try:
        validator = jsonschema_rs.validator_for(output.json_schema, validate_formats=True)
        wrong = next(iter(validator.iter_errors(value)), None)
    except (ValueError, RecursionError) as error:
        return Unparsable(f"the schema cannot be used: {error}", "unsatisfiable")
    if wrong is None:
        return None
    place = "".join(f"/{str(each).replace('~', '~0').replace('/', '~1')}" for each in wrong.instance_path)
    return Unparsable(f"the answer is not valid by the schema: {wrong.message[:500]}", place=place)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _NoJson("it names a key twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _NoJson(f"it contains {name}")
