"""Reasons why a value is refused, in words for its sender: each field and what it must be, never its content.

One table, by pydantic's kinds of errors: a new kind needs one line there.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from headrace_schemas import times
from headrace_schemas.errors import HeadraceError, InvalidRecord
from headrace_schemas.job import Sampling
from headrace_schemas.limits import MAX_SHORT_TEXT, PATTERNS
from headrace_schemas.surrogates import ADVICE, in_words, lone_surrogates, quoted, shown

_MOST_NAMED = 5
_LONGEST = 1_500
_MOST_READ = 1_000  # a stranger may send so many that listing them would hold up all others

# Names of the items of a list or an object, where they differ from the field's name.
_NOUNS: Final = {"stop": "texts", "value": "values", "metadata": "entries", "stages": "records", "chain": "models"}

_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (type(None), "null"),
    (bool, "true or false"),
    ((int, float), "a number"),
    (str, "text"),
    ((list, tuple), "a list"),
    (Mapping, "an object"),
)

# Names of kinds of filters and of values, which pydantic puts among the places of a document.
_VALUE_TAGS: Final = frozenset({"boolean", "whole", "number", "text", "list"})
_FILTER_TAGS: Final = frozenset({"eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or", *_VALUE_TAGS})

_CODES: Final = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}

_SAMPLED: Final = "GenerationJob"  # whose answers are sampled

_Item = Mapping[str, Any]  # as pydantic tells it; `of` is the class that was to be read
_Saying = Callable[[_Item, Mapping[str, Any]], str]


def _must_be(what: str) -> _Saying:
    return lambda item, _: f"must be {what}{_instead(item['input'], what)}"


def _says(words: str) -> _Saying:
    return lambda _, context: words.format_map(context)


def _bound(words: str, name: str) -> _Saying:
    return lambda _, context: f"must be {words} {float(context[name]):.15g}"


def _too_short(_: _Item, context: Mapping[str, Any]) -> str:
    least = context["min_length"]
    return "is empty" if least == 1 else f"has fewer than {least} characters"


def _too_many(item: _Item, context: Mapping[str, Any]) -> str:
    actual = context.get("actual_length")
    more = f", not {actual}" if isinstance(actual, int) else ""
    return f"at most {context['max_length']} {_noun(item)}{more}"


def _too_few(item: _Item, context: Mapping[str, Any]) -> str:
    return f"at least {context['min_length']} of {_noun(item)}"


def _pattern(_: _Item, context: Mapping[str, Any]) -> str:
    return PATTERNS.get(context["pattern"], f"must match {context['pattern']}")


def _unknown_field(item: _Item, _: Mapping[str, Any]) -> str:
    known_elsewhere = len(item["loc"]) == 1 and item["loc"][0] in Sampling.model_fields and item["of"] == _SAMPLED
    return "is no field here: it belongs in `sampling`" if known_elsewhere else "is no field that is known here"


_TEXT, _WHOLE, _NUMBER = _must_be("text"), _must_be("a whole number"), _must_be("a number")
_YES_NO, _LIST, _OBJECT = _must_be("true or false"), _must_be("a list"), _must_be("an object")
_DAY = _says("must be a day, such as 2026-01-31")

_SAYINGS: Final[dict[str, _Saying]] = {
    "missing": _says("is missing"),
    "extra_forbidden": _unknown_field,
    "string_type": _TEXT,
    "string_sub_type": _TEXT,
    "string_unicode": _says(f"holds {ADVICE}"),
    "string_too_short": _too_short,
    "string_too_long": _says("has more than {max_length} characters"),
    "string_pattern_mismatch": _pattern,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _says("must be a finite number"),
    "greater_than": _bound("greater than", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than": _bound("less than", "lt"),
    "less_than_equal": _bound("at most", "le"),
    "bool_type": _YES_NO,
    "bool_parsing": _YES_NO,
    "enum": _says("must be {expected}"),
    "literal_error": _says("must be {expected}"),
    "list_type": _LIST,
    "tuple_type": _LIST,
    "dict_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "too_long": _too_many,
    "too_short": _too_few,
    "date_type": _DAY,
    "date_parsing": _DAY,
    "date_from_datetime_parsing": _DAY,
    "date_from_datetime_inexact": _DAY,
    "datetime_type": _says(times.ADVICE),
    "datetime_parsing": _says(times.ADVICE),
    "datetime_from_date_parsing": _says(times.ADVICE),
    "datetime_object_invalid": _says(times.ADVICE),
    "timezone_aware": _says("has no time zone: it " + times.ADVICE),
    "attribute_type": _must_be("text, a number, true or false"),
    "choice_type": _must_be("text, true or false"),
    "variable_type": _must_be("text, a number, true or false, or a list of texts"),
    "union_tag_not_found": _says("is missing"),
    "union_tag_invalid": _says("must be one of {expected_tags}"),
    "value_error": _says("{error}"),
}


def describe(error: ValidationError, document: bytes = b"") -> str:
    """Return a validation error as one line for people: each field and what is wrong with it, never its content.

    `document` is the JSON that was read, if any was: what its parser cannot name, such as a lone surrogate's field,
    is looked up there.
    """
    if (count := error.error_count()) > _MOST_READ:
        return f"value: has {count} things wrong with it, too many to name: is it a {error.title}?"
    items = _items(error)
    if items[0]["type"] == "json_invalid":
        problems = lone_surrogates(document) or [_no_json(items[0]["ctx"]["error"], document)]
    else:
        problems = [_problem(item) for item in items]
    more = f" (and {len(problems) - _MOST_NAMED} more)" if len(problems) > _MOST_NAMED else ""
    return "; ".join(problems[:_MOST_NAMED])[:_LONGEST] + more


def first_problem(error: ValidationError, document: bytes = b"") -> tuple[tuple[int | str, ...] | None, str]:
    """Return the first thing that is wrong: where it is, and what, in words that go on from its name; never its
    content.

    The place is None where the document could not be read at all: the words then name it, if it can be told.
    """
    item = _items(error)[0]
    if item["type"] == "json_invalid":
        return None, describe(error, document)
    return tuple(_parts(item["type"], item["loc"])), words_of(item)


def invalid_record(error: ValidationError) -> InvalidRecord:
    """Return the refusal of a document: all that is wrong in words, and the place and code of the first."""
    place, _ = first_problem(error)
    param = None if not place else shown(map(str, place))
    return InvalidRecord(describe(error), param=param, code=code_of(_items(error)[0]["type"]))


def code_of(kind: str) -> str:
    """Return OpenAI's code for one of pydantic's kinds of errors."""
    return _CODES.get(kind, "invalid_value")


def _items(error: ValidationError) -> list[dict[str, Any]]:
    errors = error.errors(include_url=False)
    return [
        {**item, "of": error.title} for item in errors if not (item["type"] == "too_short" and _is_echo(item, errors))
    ]


def _is_echo(short: Any, items: Sequence[Any]) -> bool:
    """Return True if a list is too short only by its own entries that are wrong: pydantic counts the right ones."""
    place = short["loc"]
    return any(len(item["loc"]) > len(place) and item["loc"][: len(place)] == place for item in items)


def _problem(item: Any) -> str:
    return _place(item["type"], item["loc"]) + words_of(item)


def words_of(item: Mapping[str, Any]) -> str:
    """Return what is wrong with one error of a validation (pydantic's `errors`), never with the value that was sent."""
    saying = _SAYINGS.get(item["type"])
    return saying({"of": "", **item}, item.get("ctx", {})) if saying else str(item["msg"])


def _place(kind: str, location: tuple[int | str, ...]) -> str:
    """Return the place that the words are about: a field with what it is in, or the value if that is no object at
    all.
    """
    parts = _parts(kind, location)
    if parts and parts[-1] == "[key]":
        return f"{in_words(map(str, parts[:-2]))}: a key "
    if not parts and kind == "value_error":
        return ""  # a rule about the fields together, which names them
    names = list(map(str, parts))
    if kind == "extra_forbidden" and names[-1] not in Sampling.model_fields:
        return f"{in_words(names[:-1])}.{quoted(names[-1])}: ".removeprefix(".")
    return f"{in_words(names) or 'value'}: "


def _parts(kind: str, location: tuple[int | str, ...]) -> list[int | str]:
    """Return a place as the document has it, without pydantic's own names for which of several classes was meant."""
    parts = list(location)
    tag = "criterion"
    if len(parts) > 2 and parts[0] == "criteria":
        del parts[2]
    if len(parts) > 1 and parts[0] == "model" and parts[1] in {"alias", "chain"}:
        del parts[1]
    if len(parts) > 1 and parts[0] == "tool_choice":
        del parts[1]
    if parts and parts[0] == "output":
        tag = "type"
        del parts[1:2]
    if parts and parts[0] == "questions":
        tag = "type"
        parts = [part for place, part in enumerate(parts) if place != 2 and not (place == 6 and part in _VALUE_TAGS)]
    if parts and parts[0] in {"knowledge_filter", "filters"}:
        tag = "type"
        parts = [part for part in parts if part not in _FILTER_TAGS]
    if len(parts) > 2 and parts[0] in {"attributes", "variables"} and parts[2] in _VALUE_TAGS:
        del parts[2]
    if kind.startswith("union_tag"):
        parts.append(tag)
    return parts


def _noun(item: _Item) -> str:
    name = str(item["loc"][-1]) if item["loc"] else ""
    return _NOUNS.get(name, name or "entries")


def _instead(found: object, wanted: str) -> str:
    for kinds, words in _KINDS:
        if isinstance(found, kinds):
            # "a whole number, not a number" would say nothing: it is one with a fraction, or far too large.
            return "" if words == wanted or (words == "a number" and wanted == "a whole number") else f", not {words}"
    return ""


def _no_json(reason: str, document: bytes) -> str:
    """Return the reason why a value cannot be parsed; the parser's words hold a line and a column, and nothing else."""
    if not document.strip():
        return "value: is empty"
    if document.startswith(b"\xef\xbb\xbf"):
        return "value: begins with a byte order mark: send UTF-8 without one"
    if document.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in document[:2]:
        return "value: is UTF-16, and must be UTF-8"
    if "unicode code point" in reason:
        return f"value: is not UTF-8: {reason}"
    if "recursion" in reason:
        return f"value: is nested too deeply: {reason}"
    return f"value: is not JSON: {reason}"


def reason_of(error: HeadraceError) -> str:
    """Return the error's message as a reason: never empty, without NUL, and no longer than a short text may be."""
    return (str(error) or type(error).__name__).replace("\x00", "\ufffd")[:MAX_SHORT_TEXT]


def shared_reason_of(error: HeadraceError) -> str:
    """Return the reason for logs and other tenants: `reason_of` without words that the error quotes."""
    return reason_of(error) if error.shared is None else error.shared[:MAX_SHORT_TEXT]
