"""The grammar of an answer that may, or must, call tools, as llguidance takes it. Pure."""

import json
from typing import Any, Final

from headrace_schemas.output_format import JsonSchemaFormat, OutputFormat
from headrace_schemas.tool import Offer
from headrace_workers.features.generation.structured.grammar import grammar_of
from headrace_workers.features.generation.structured.tools import CLOSE, OPEN, Dialect, arguments_schema, as_json

_TEXT: Final = "/(?s:.*)/"  # characters alone: what is not an expression may hold tokens such as <|im_start|>
_MOST_HELD: Final = 16  # calls of one answer: a small model may call without end
_FORMAT: Final = "format"  # the name of its grammar within the whole one


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
    if not offer.required and not held and dialect is Dialect.HERMES_TOKENS:
        first, free = f"TEXT {first}", [rf"TEXT: {_TEXT} & ~/(?s:.*{OPEN}.*)/"]
    elif not offer.required and not held and dialect is Dialect.HERMES:
        # A lazy rule ends at its first match, so what follows the tag is a call and never text.
        first = rf'before "\n" call "\n{CLOSE}"'
        free = [rf"TEXT: {_TEXT} & ~/(?s:.*{OPEN}.*)/", f"before[lazy]: /(?s:.*){OPEN}/"]
    elif not offer.required and not held:
        free, opening = [rf'TEXT: {_TEXT} & ~/(?s:\s*\{{\s*"name"\s*:.*)/'], r'open[lazy]: /\{"name": /'
    more = min(offer.most, _MOST_HELD) - 1
    calls = rf'{first} ("\n" {following}){{0,{more}}}' if more else first
    without = "TEXT | " if free else f"@{_FORMAT} | " if held else ""
    return [f"start: {without}{calls}", *free, opening]


def _part(output: OutputFormat, name: str) -> dict[str, Any]:
    """Return the grammar of a format as a part of another grammar."""
    (grammar,) = json.loads(grammar_of(output))["grammars"]
    return {**grammar, "name": name}
