"""The grammar of an answer that may, or must, call a tool, as llguidance takes it. Pure."""

import json
from collections.abc import Sequence
from typing import Any, Final

from headrace_schemas.output_format import JsonSchemaFormat
from headrace_schemas.tool import Tool, ToolChoice
from headrace_workers.features.generation.structured.grammar import grammar_of
from headrace_workers.features.generation.structured.tools import (
    CLOSE,
    OPEN,
    Dialect,
    arguments_schema,
    as_json,
    must_call,
    offered,
)

_TEXT: Final = "/(?s:.*)/"  # characters alone: what is not an expression may hold tokens such as <|im_start|>


def grammar_of_call(tools: Sequence[Tool], choice: ToolChoice | None, dialect: Dialect) -> str:
    """Return the grammar of an answer that may, or must, call one of the offered tools: llguidance's JSON notation.

    `dialect` is the model's. Its text around a call is free where it may call none.
    """
    offers = offered(tools, choice)
    rules = [f"call: open ({' | '.join(f'call_{place}' for place in range(len(offers)))})"]
    for place, tool in enumerate(offers):
        name = as_json(f'{as_json(tool.name)}, "{dialect.arguments}": ')
        rules.append(f'call_{place}: {name} @arguments_{place} "}}"')
    lark = "\n".join([*_around(dialect, free=not must_call(choice)), *rules, ""])
    return json.dumps({"grammars": [{"lark_grammar": lark}, *map(_arguments, range(len(offers)), offers)]})


def _around(dialect: Dialect, *, free: bool) -> list[str]:
    """Return the rules for what stands around a call, and for an answer without one where it is `free`."""
    opening = r'open: "{\"name\": "'
    if dialect is Dialect.HERMES_TOKENS:  # llguidance matches such tokens by name alone, never by their text
        end = rf'{OPEN} "\n" call "\n" {CLOSE}'
        if not free:
            return [f"start: {end}", opening]
        return [f"start: TEXT | TEXT {end}", rf"TEXT: {_TEXT} & ~/(?s:.*{OPEN}.*)/", opening]
    if dialect is Dialect.HERMES:
        end = rf'"\n" call "\n{CLOSE}"'
        if not free:
            return [f'start: "{OPEN}" {end}', opening]
        # A lazy rule ends at its first match, so what follows the tag is a call and never text.
        before = f"before[lazy]: /(?s:.*){OPEN}/"
        return [f"start: TEXT | before {end}", rf"TEXT: {_TEXT} & ~/(?s:.*{OPEN}.*)/", before, opening]
    if not free:
        return ["start: call", opening]
    return ["start: TEXT | call", rf'TEXT: {_TEXT} & ~/(?s:\s*\{{\s*"name"\s*:.*)/', r'open[lazy]: /\{"name": /']


def _arguments(place: int, tool: Tool) -> dict[str, Any]:
    """Return the grammar of a tool's arguments as a part of another grammar."""
    (grammar,) = json.loads(grammar_of(JsonSchemaFormat(json_schema=arguments_schema(tool))))["grammars"]
    return {**grammar, "name": f"arguments_{place}"}
