"""Checks of answers: whether an answer has the format that its job asks for. The whole of it is checked, however it was
made.

Nothing that an answer holds makes the check fail otherwise or run without bound. Nobody has moderated the answer, so a
reason quotes nothing of it, and a place has only the names that its schema knows: any other is `*`.
"""

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator
from functools import lru_cache
from threading import Lock
from typing import Any, Final

import jsonschema_rs
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from headrace_schemas.errors import Unparsable
from headrace_schemas.limits import MAX_SHORT_TEXT, MAX_TEXT
from headrace_schemas.output_format import ChoiceFormat, JsonObjectFormat, JsonSchemaFormat, OutputFormat
from headrace_workers.models.structured.grammar import grammar_of
from headrace_workers.models.structured.json_schema import (
    BoundedCheck,
    TooCostly,
    Unexplained,
    in_its_dialect,
    pointer,
)

_SPACE: Final = " \t\n\r"
_DIGITS: Final = 4_000  # of a number; Python reads none of more than 4,300

# Rules whose message names no part of the answer; values are masked in all of them.
_NAMES_NOTHING: Final = frozenset(
    {
        "const", "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "maximum", "maxItems", "maxLength",
        "maxProperties", "minimum", "minItems", "minLength", "minProperties", "multipleOf", "pattern", "required",
        "type", "uniqueItems",
    }
)  # fmt: skip
_LONGEST: Final = 300  # characters of a message
LARGE_PATTERN: Final = 250_000  # bytes of a pattern when it is compiled; no pattern may have more
_KEPT: Final = 128  # validators
_MASK: Final = "it"  # in place of the value, which may be long or private
_SECONDS: Final = 2.0  # of computing for a grammar: one that is ambiguous takes time by the cube of an answer
_AT_ONCE: Final = 8  # bytes between two looks at the clock
_lock: Final = Lock()


class NotJson(ValueError):
    """A text that is no JSON. `place` is a JSON pointer or a number of characters; None where it cannot be told."""

    def __init__(self, reason: str, place: str | None = None) -> None:
        super().__init__(reason)
        self.place = place


def read_whole(text: str, names: Collection[str] = ()) -> Any:
    """Return the value of a text that is JSON as a whole. Raise NotJson, whose place has these names of keys."""
    value, end = read_beginning(text, names)
    rest = text[end:].lstrip(_SPACE)
    if rest:
        place = len(text) - len(rest)
        raise NotJson(f"it goes on after its end at character {place}", str(place))
    return value


def read_beginning(text: str, names: Collection[str] = ()) -> tuple[Any, int]:
    """Return the JSON value that a text begins with, and where that ends. Raise NotJson, as `read_whole` does."""
    twice: list[tuple[dict[str, Any], str]] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            twice.append((found, name))
        return found

    decoder = json.JSONDecoder(object_pairs_hook=once, parse_constant=_refuse, parse_int=_whole, parse_float=_finite)
    try:
        value, end = decoder.raw_decode(text, len(text) - len(text.lstrip(_SPACE)))
    except json.JSONDecodeError as error:
        # Python's words for strings end before a place.
        raise NotJson(f"{error.msg.removesuffix(' starting at')} at character {error.pos}", str(error.pos)) from None
    except RecursionError:
        raise NotJson("it is nested too deep", "0") from None
    if twice:
        owner, name = twice[-1]
        steps = (*_steps_to(value, owner), name)
        where = pointer(tuple(str(step) if isinstance(step, int) or step in names else "*" for step in steps))
        raise NotJson("an object has a key twice", where[:MAX_SHORT_TEXT])
    if _holds_half(value, text):
        raise NotJson("a text holds half of a character (a lone surrogate)")
    return value, end


def _holds_half(value: Any, text: str) -> bool:
    if text.isascii() and "\\u" not in text:
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _steps_to(document: Any, wanted: dict[str, Any]) -> tuple[str | int, ...]:
    """Return the steps to an object; none where a key that came twice has hidden it."""
    waiting: list[tuple[Any, tuple[str | int, ...]]] = [(document, ())]
    while waiting:
        node, steps = waiting.pop()
        if node is wanted:
            return steps
        parts = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        waiting += [(part, (*steps, step)) for step, part in parts if isinstance(part, dict | list)]
    return ()


def _refuse(constant: str) -> None:
    raise NotJson(f"{constant} is no JSON")


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise NotJson(f"a number has more than {_DIGITS} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise NotJson("a number is too large")
    return value


def failure_of(output: OutputFormat, text: str, finish_reason: str) -> Unparsable | None:
    """Return why an answer does not have a format; None where it has. An answer that was cut off is `truncated`."""
    try:
        _check(output, text)
    except Unparsable as failure:
        if finish_reason == "length":
            return Unparsable(
                f"the answer's tokens ended before it was complete: {failure}", "truncated", failure.place
            )
        return failure
    return None


class SchemaCheck:
    """The check of documents by a JSON Schema. Raises jsonschema-rs's errors where it is none.

    Nobody has moderated an answer that fails its check. So the reason, and the place, hold words of the schema alone: a
    name that the model made up is `*`.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        validator = jsonschema_rs.validator_for(
            in_its_dialect(schema),
            pattern_options=jsonschema_rs.RegexOptions(size_limit=LARGE_PATTERN),
            validate_formats=True,
            offline=True,
            mask=_MASK,
        )
        self._check = BoundedCheck(validator, schema)
        self.names = frozenset(_names(schema))  # that are told

    def run(self, document: Any) -> None:
        """Raise Unparsable where a document does not keep to the schema."""
        try:
            self._check.run(document)
        except TooCostly:
            raise Unparsable("the answer has too many levels to be checked by its schema", place="") from None
        except Unexplained:
            raise Unparsable("the answer does not keep to its schema", place="") from None
        except jsonschema_rs.ValidationError as error:
            steps = (str(item) if isinstance(item, int) or item in self.names else "*" for item in error.instance_path)
            where = pointer(tuple(steps))
            rule = next((item for item in reversed(error.schema_path) if isinstance(item, str)), "")
            words = error.message.strip().splitlines()[0][:_LONGEST] if rule in _NAMES_NOTHING else f"it breaks {rule}"
            message = f"the answer does not keep to its schema at {where[:_LONGEST] or 'its root'}: {words}"
            raise Unparsable(message, place=where[:MAX_SHORT_TEXT]) from None
        except ValueError as error:  # nested too deeply for it
            raise Unparsable(f"the answer cannot be checked by its schema: {str(error)[:_LONGEST]}", place="") from None


def _names(schema: Any) -> Iterator[str]:
    """Yield the names of properties that a schema knows."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            properties = node.get("properties")
            yield from properties if isinstance(properties, dict) else ()
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


_checks: OrderedDict[bytes, SchemaCheck] = OrderedDict()  # by digest of their schema; the oldest is forgotten first


def check_of(schema: dict[str, Any], text: str) -> SchemaCheck:
    """Return the check of a schema, which is kept. `text` is the schema as JSON. Raise jsonschema-rs's errors where it
    is none.
    """
    key = hashlib.blake2b(text.encode(), digest_size=16).digest()
    with _lock:
        if key in _checks:
            _checks.move_to_end(key)
            return _checks[key]
    check = SchemaCheck(schema)
    with _lock:
        _checks[key] = check
        if len(_checks) > _KEPT:
            _checks.popitem(last=False)
    return check


def _check(output: OutputFormat, text: str) -> None:
    if len(text) > MAX_TEXT:
        raise Unparsable(f"the answer has {len(text)} characters; the limit is {MAX_TEXT}", place=str(MAX_TEXT))
    match output:
        case ChoiceFormat(choices=choices):
            if text not in choices:
                raise Unparsable("the answer is none of the choices", place="0")
        case JsonObjectFormat():
            if not isinstance(_json_of(text), dict):
                raise Unparsable("the answer is JSON, but no object", place="")
        case JsonSchemaFormat(json_schema=schema):
            check = check_of(schema, output.as_json)
            check.run(_json_of(text, check.names))
        case _:
            _check_grammar(output, text)


def _json_of(text: str, names: Collection[str] = ()) -> Any:
    """Return the value of an answer that is JSON. Raise Unparsable, whose place has these names of keys."""
    try:
        return read_whole(text, names)
    except NotJson as error:
        raise Unparsable(f"the answer is no JSON document: {error}", place=error.place) from None


def _check_grammar(output: OutputFormat, text: str) -> None:
    """Raise Unparsable unless the grammar derives the text, which is read byte by byte."""
    matcher = LLMatcher(_bytes(), grammar_of(output), log_level=0, limits=_limits())
    data = text.encode("utf-8", "surrogatepass")
    until = time.thread_time() + _SECONDS
    for start in range(0, len(data), _AT_ONCE):
        piece = data[start : start + _AT_ONCE]
        read = matcher.try_consume_tokens(list(piece))
        if read < len(piece):
            place = len(data[: start + read].decode("utf-8", "ignore"))
            raise Unparsable(f"the answer leaves its grammar at character {place}", place=str(place))
        if time.thread_time() > until:
            place = len(data[:start].decode("utf-8", "ignore"))
            raise Unparsable(f"the answer takes more than {_SECONDS:g} s to check by its grammar", place=str(place))
    if not matcher.is_accepting():
        raise Unparsable("the answer ends before its grammar does", place=str(len(text)))


@lru_cache(maxsize=1)
def _bytes() -> LLTokenizer:
    return LLTokenizer("byte")


@lru_cache(maxsize=1)
def _limits() -> LLParserLimits:
    return LLParserLimits(max_lexer_states=50_000, verbose_errors=False)
