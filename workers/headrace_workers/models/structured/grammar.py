"""The grammar of an answer, as llguidance takes it: of a format, and of a call of a tool. Pure.

A grammar may let through more than its schema does: llguidance does not know every keyword, and reads some otherwise
than the draft does. Such a keyword is left out, so that no answer is forbidden that is valid. The check of the whole
answer decides (see `validity`).
"""

import json
import math
import re
from collections import defaultdict
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from llguidance import LLMatcher

from headrace_schemas.output_format import (
    ChoiceFormat,
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    OutputFormat,
    RegexFormat,
)
from headrace_schemas.tool import Offer
from headrace_workers.models.structured.json_schema import (
    LEGACY,
    OutsideReference,
    Subschemas,
    in_its_dialect,
    parts_of,
)
from headrace_workers.models.structured.tools import CLOSE, OPEN, Dialect, arguments_schema, as_json

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

_EXACT: Final = 2**53  # llguidance computes bounds as floats, which have each integer up to this one
_INT64: Final = 2**63
_TINY: Final = 1e-50  # of a smaller bound it makes an expression that is nested too deep
_MOST_DIGITS: Final = 2**32 - 1  # of a `multipleOf`, without its point
_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_IN_PLACE: Final = ("anyOf", "oneOf", "allOf")
# Keywords that stay beside a `$ref`: they name subschemas, and hold those that others refer to.
_NAMES: Final = ("$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$defs", "definitions")
_ESCAPED_OR_CLASS: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_UNKNOWN_ESCAPE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\[bBc<>]")  # edges of words, and control characters
_INNER_ANCHOR: Final = re.compile(r"(?<!^)(?<![(|])\^|\$(?!\)*(?:$|\|\(*\^))|\(\?[a-z]*m")

# Between two tokens. Without a bound, models wrote white space until their tokens ended; without any white space they
# closed lists that they would have begun on a new line.
WHITE_SPACE: Final = r"[ \n\r\t]{1,8}"
_OPTIONS: Final["JsonCompileOptions"] = {"whitespace_pattern": WHITE_SPACE, "lenient": True}
_SPECIAL: Final = re.compile(r"[^A-Za-z0-9\u0080-\U0010ffff]")
_TEXT: Final = "/(?s:.*)/"  # characters alone: what is not an expression may hold tokens such as <|im_start|>
_MOST_HELD: Final = 16  # calls of one answer: a small model may call without end
_FORMAT: Final = "format"  # the name of its grammar within the whole one


def guiding(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that each value of this schema satisfies, in words that llguidance knows. The parts of the schema
    that is given are changed.
    """
    copy = in_its_dialect(schema)
    copy.pop("x-guidance", None)  # llguidance's own options
    subschemas = Subschemas(copy)
    legacy = copy["$schema"] in LEGACY
    targets = {id(node): _targets(subschemas, node) for node in subschemas.nodes}  # grows while they are found
    loops = _in_loops(subschemas, targets, legacy=legacy)
    circular: dict[int, bool] = {}

    def is_circular(node: Any) -> bool:
        """Return True if a reference to what stands around it applies to the very value of the node."""
        if not isinstance(node, dict):
            return False
        if id(node) not in circular:
            circular[id(node)] = False  # where it needs itself for the same value, which admission refuses
            found = id(node) in loops and any(id(entry) in loops for entry in targets.get(id(node), ()))
            circular[id(node)] = found or any(is_circular(part) for name in _IN_PLACE for part in _list(node, name))
        return circular[id(node)]

    alone = [node for node in subschemas.nodes if is_circular(node) or (legacy and isinstance(node.get("$ref"), str))]
    for node in alone:
        _keep_one(node, [name for name in _IN_PLACE if any(map(is_circular, _list(node, name)))])
        if len(_list(node, "allOf")) > 1:
            node["allOf"] = [next(part for part in node["allOf"] if is_circular(part))]
    for node in subschemas.nodes:
        _loosen_numbers(node)
        _loosen_counts(node)
        _loosen_patterns(node)
    return copy


def _targets(subschemas: Subschemas, node: dict[str, Any]) -> list[dict[str, Any]]:
    with suppress(OutsideReference):  # which admission refuses
        return [target for _, target in subschemas.targets(node) if isinstance(target, dict)]
    return []


def _in_loops(subschemas: Subschemas, targets: dict[int, list[dict[str, Any]]], *, legacy: bool) -> set[int]:
    """Return the subschemas that stand in a loop of references, or between two loops, by their identity."""
    if not any(targets.values()):
        return set()
    onward = {}
    for node in subschemas.nodes:
        hides = legacy and targets[id(node)]  # what stands beside it
        parts = () if hides else (part for steps, part in parts_of(node) if steps[0] not in ("$defs", "definitions"))
        onward[id(node)] = {id(part) for part in (*parts, *targets[id(node)]) if isinstance(part, dict)}
    backward = defaultdict(set)
    for start, ends in onward.items():
        for end in ends:
            backward[end].add(start)
    left = set(onward)
    for ahead, behind in ((onward, backward), (backward, onward)):
        degrees = {number: len(ahead.get(number, set()) & left) for number in left}
        waiting = [number for number, degree in degrees.items() if not degree]
        while waiting:
            end = waiting.pop()
            left.discard(end)
            for number in behind.get(end, set()) & left:
                degrees[number] -= 1
                if not degrees[number]:
                    waiting.append(number)
    return left


def _keep_one(node: dict[str, Any], circular: list[str]) -> None:
    """Leave one keyword: llguidance joins no two of which one leads back. Before 2019-09 `$ref` is alone, anyway."""
    kept = "$ref" if isinstance(node.get("$ref"), str) else circular[0] if circular else None
    for name in list(node):
        if kept is not None and name != kept and name not in _NAMES:
            del node[name]


def _loosen_numbers(node: dict[str, Any]) -> None:
    for name in _BOUNDS:
        bound = node.get(name)
        if _is_number(bound) and (abs(bound) > _EXACT or 0 < abs(bound) < _TINY):
            del node[name]
    if _is_number(node.get("multipleOf")) and not _is_short(float(node["multipleOf"])):
        del node["multipleOf"]
    for name, values in (("enum", _list(node, "enum")), ("const", [node.get("const")])):
        large = [value for value in values if _has_large(value)]
        if large:
            del node[name]
            others = [value for value in values if not _has_large(value)]
            parts = [_floats_around(value) for value in large] + ([{"enum": others}] if others else [])
            node["allOf"] = [*_list(node, "allOf"), {"anyOf": parts}]


def _is_short(number: float) -> bool:
    for _ in range(20):
        if number.is_integer():
            return abs(number) <= _MOST_DIGITS
        number *= 10
    return False


def _has_large(value: Any) -> bool:
    """Return True if a value holds an integer that no float has, or that no 64 bits have."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, int) and abs(each) > _EXACT and (abs(each) >= _INT64 or int(float(each)) != each):
            return True
        waiting += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
    return False


def _floats_around(value: Any) -> dict[str, Any]:
    """Return a schema that holds a value: for an integer, the floats around it."""
    if not isinstance(value, int):
        return {"type": "object" if isinstance(value, dict) else "array"}
    if abs(value) >= _INT64 - 1_024:
        return {"type": "integer"}
    near = float(value)
    low = near if near <= value else math.nextafter(near, -math.inf)
    high = near if near >= value else math.nextafter(near, math.inf)
    return {"type": "integer", "minimum": int(low), "maximum": int(high)}


def _loosen_counts(node: dict[str, Any]) -> None:
    """Drop `minProperties` where llguidance would count the named properties that are optional as none."""
    least, required = node.get("minProperties"), set(_list(node, "required"))
    named = node.get("properties")
    optional = isinstance(named, dict) and not required.issuperset(named)
    if not _is_number(least) or least <= len(required) or not (optional or any(name in node for name in _IN_PLACE)):
        return
    closed = node.get("additionalProperties") is False and not node.get("patternProperties")
    if not closed or least > len(required) + 1 or node.get("maxProperties") not in (None, len(required) + 1):
        del node["minProperties"]


def _loosen_patterns(node: dict[str, Any]) -> None:
    if isinstance(node.get("pattern"), str) and not _is_known(node["pattern"]):
        del node["pattern"]
    named = node.get("patternProperties")
    unknown = [name for name in named if not _is_known(name)] if isinstance(named, dict) else []
    if isinstance(named, dict) and unknown:
        for name in unknown:
            del named[name]
        node.pop("additionalProperties", None)  # it would apply to names that the pattern matches


def _is_known(pattern: str) -> bool:
    if _UNKNOWN_ESCAPE.search(pattern):
        return False
    return _INNER_ANCHOR.search(_ESCAPED_OR_CLASS.sub("x", pattern)) is None


def _list(node: dict[str, Any], name: str) -> list[Any]:
    found = node.get(name)
    return found if isinstance(found, list) else []


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def grammar_of(output: OutputFormat) -> str:
    """Return the grammar of a format, in llguidance's JSON notation."""
    match output:
        case JsonObjectFormat():
            return _of_schema({"type": "object"})
        case ChoiceFormat(choices=choices):
            return str(LLMatcher.grammar_from_regex("|".join(map(_literal, choices))))
        case RegexFormat(pattern=pattern):
            return str(LLMatcher.grammar_from_regex(pattern))
        case GrammarFormat(grammar=grammar):
            return str(LLMatcher.grammar_from_lark(grammar))
        case _:
            return _of_json_schema(output.as_json)


@lru_cache(maxsize=32)
def _of_json_schema(text: str) -> str:
    return _of_schema(guiding(json.loads(text)))


def _of_schema(schema: dict[str, Any]) -> str:
    return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), None, _OPTIONS))


def _literal(text: str) -> str:
    """Return the regular expression of a text. One lexeme holds ten thousand texts; as many rules are too many."""
    return _SPECIAL.sub(lambda found: f"\\x{{{ord(found[0]):x}}}", text)


def grammar_of_call(offer: Offer, dialect: Dialect, output: OutputFormat | None = None) -> str:
    """Return the grammar of an answer that calls some of the offered tools: llguidance's JSON notation.

    `dialect` is the model's. Where no call is required, an answer without one has the format of `output`; without a
    format its text is free.
    """
    rules = [f"call: open ({' | '.join(f'call_{number}' for number in range(len(offer.tools)))})"]
    for number, tool in enumerate(offer.tools):
        name = as_json(f'{as_json(tool.name)}, "{dialect.arguments}": ')
        rules.append(f'call_{number}: {name} @arguments_{number} "}}"')
    held = output if offer.beside_format else None
    lark = "\n".join([*_around(dialect, offer, held=held is not None), *rules, ""])
    parts = [_part(JsonSchemaFormat(json_schema=arguments_schema(tool)), f"arguments_{number}")
             for number, tool in enumerate(offer.tools)]  # fmt: skip
    if held is not None:
        parts.append(_part(held, _FORMAT))
    return json.dumps({"grammars": [{"lark_grammar": lark}, *parts]})


def _around(dialect: Dialect, offer: Offer, *, held: bool) -> list[str]:
    """Return the rules for what stands around calls, and for an answer without one where it may call none."""
    first = following = "call"
    if dialect is Dialect.HERMES_TOKENS:  # llguidance matches such tokens by name alone, never by their text
        first = following = rf'{OPEN} "\n" call "\n" {CLOSE}'
    elif dialect is Dialect.HERMES:
        first = following = rf'"{OPEN}\n" call "\n{CLOSE}"'
    opening = r'open: "{\"name\": "'
    free: list[str] = []
    if not offer.required and not held and first != "call":
        free = _free_beside_tags(offer, dialect)
        first = f"TEXT {first}" if dialect is Dialect.HERMES_TOKENS else rf'before "\n" call "\n{CLOSE}"'
    elif not offer.required and not held:
        free, opening = [rf'TEXT: {_TEXT} & ~/(?s:\s*\{{\s*"name"\s*:.*)/'], r'open[lazy]: /\{"name": /'
    more = min(offer.most, _MOST_HELD) - 1
    # Models end their line before they end their answer. Without that line they could only go on with another call.
    calls = rf'{first} ("\n" {following}){{0,{more}}} "\n"?' if more else first
    if free and following != "call":
        calls = f"bare | {calls}"
    without = "TEXT | " if free else f"@{_FORMAT} | " if held else ""
    return [f"start: {without}{calls}", *free, opening]


def _free_beside_tags(offer: Offer, dialect: Dialect) -> list[str]:
    """Return the rules for the text of a model that writes calls in tags, and for a call that it writes without them.

    Text that begins as a call of an offered tool would be read as one. So it is held to one: it may name no other tool
    after it.
    """
    names = "|".join(tool.name for tool in offer.tools)
    begins = rf'~/(?s:\s*\{{\s*"name"\s*:\s*"({names})"\s*,.*)/'
    rules = [rf"TEXT: {_TEXT} & ~/(?s:.*{OPEN}.*)/ & {begins}"]
    if dialect is Dialect.HERMES:
        # A lazy rule ends at its first match, so what follows the tag is a call and never text.
        rules += ["before[lazy]: BEFORE", f"BEFORE: /(?s:.*){OPEN}/ & {begins}"]
    rules.append(f"bare: {' | '.join(f'bare_{number}' for number in range(len(offer.tools)))}")
    for number, tool in enumerate(offer.tools):
        rules += [f'bare_{number}: begin_{number} @arguments_{number} "}}"',
                  rf'begin_{number}[lazy]: /\{{"name": "{tool.name}", "{dialect.arguments}": /']  # fmt: skip
    return rules


def _part(output: OutputFormat, name: str) -> dict[str, Any]:
    """Return the grammar of a format as a part of another grammar."""
    (grammar,) = json.loads(grammar_of(output))["grammars"]
    return {**grammar, "name": name}
