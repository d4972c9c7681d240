"""Tools that a model may call: which it is offered, how it writes a call, and the grammar of its answer. Pure."""

import json
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs
from llguidance import LLMatcher

from headrace_schemas.errors import InvalidRecord
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_schemas.tool import NamedTool, Tool, ToolChoice
from headrace_workers.features.generation.structured.grammar import grammar_of

MAX_TOOLS_BYTES: Final = 256 * 1024  # of all tools of a job, as JSON
_PATTERN_BYTES: Final = 100_000  # of one pattern when it is compiled
OPEN: Final = "<tool_call>"
CLOSE: Final = "</tool_call>"


class Dialect(StrEnum):
    """The way in which a model writes a call. `JSON` is asked of models whose template knows no tools."""

    HERMES = "hermes"  # Qwen and others: <tool_call>\n{"name": …, "arguments": …}\n</tool_call>
    LLAMA = "llama"  # Llama 3.1 and later: {"name": …, "parameters": …}
    JSON = "json"  # {"name": …, "arguments": …}

    @property
    def arguments(self) -> str:
        """Return the name under which the arguments stand."""
        return "parameters" if self is Dialect.LLAMA else "arguments"


def offered(tools: Sequence[Tool], choice: ToolChoice | None) -> tuple[Tool, ...]:
    """Return the tools that the model may call: none, all, or the one that is named."""
    if choice == "none":
        return ()
    if isinstance(choice, NamedTool):
        return tuple(each for each in tools if each.name == choice.name)
    return tuple(tools)


def must_call(choice: ToolChoice | None) -> bool:
    """Return True if an answer without a call would be wrong."""
    return choice == "required" or isinstance(choice, NamedTool)


def arguments_schema(tool: Tool) -> dict[str, Any]:
    """Return the JSON Schema of a tool's arguments, an object. A tool without parameters takes none."""
    if not tool.parameters:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return {**tool.parameters, "type": "object"}


def described(tool: Tool) -> dict[str, Any]:
    """Return a tool as OpenAI's API and most chat templates describe it."""
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def size_of(tools: Sequence[Tool]) -> int:
    """Return the bytes of tools as JSON."""
    return sum(len(as_json(described(each)).encode("utf-8", "surrogatepass")) for each in tools)


def as_json(value: Any) -> str:
    """Return a value as JSON, with the characters as they are."""
    return json.dumps(value, ensure_ascii=False)


def check_size(tools: Sequence[Tool]) -> None:
    """Raise InvalidRecord where the tools of a job are too large together. Quick."""
    try:
        size = size_of(tools)
    except RecursionError:
        raise InvalidRecord("the parameters of a tool are nested too deep", param="tools") from None
    if size > MAX_TOOLS_BYTES:
        raise InvalidRecord(
            f"the tools have {size:,} bytes as JSON together; the limit is {MAX_TOOLS_BYTES:,}", param="tools"
        )


def check_schemas(tools: Sequence[Tool]) -> None:
    """Raise InvalidRecord, which names the tool, where its parameters are no schema that arguments can be held to."""
    for place, tool in enumerate(tools):
        param = f"tools[{place}].parameters"
        kind = tool.parameters.get("type", "object")
        if kind != "object" and not (isinstance(kind, list) and "object" in kind):
            raise InvalidRecord(
                f"the parameters of the tool {tool.name} have the type {as_json(kind)}: arguments "
                'are an object, so say "type": "object"',
                param=f"{param}.type",
            )
        try:
            validator_of(tool)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError, RecursionError) as error:
            wrong = str(error)
        else:
            wrong = LLMatcher.validate_grammar(grammar_of(_format(tool)))
        if wrong:
            raise InvalidRecord(f"the parameters of the tool {tool.name} cannot be held to: {wrong[:500]}", param=param)


def validator_of(tool: Tool) -> Any:
    """Return the validator of a tool's arguments, which fetches nothing and quotes no value."""
    return _validator(as_json(arguments_schema(tool)))


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    return jsonschema_rs.validator_for(
        schema,
        validate_formats=True,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES),
        offline=True,
        mask="it",
    )


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
    if dialect is Dialect.HERMES:
        end = rf'"\n" call "\n{CLOSE}"'
        if not free:
            return [f'start: "{OPEN}" {end}', opening]
        # A lazy rule ends at its first match, so what follows the tag is a call and never text.
        return [f"start: TEXT | before {end}", f"TEXT: ~/(?s:.*{OPEN}.*)/", f"before[lazy]: /(?s:.*){OPEN}/", opening]
    if not free:
        return ["start: call", opening]
    return ["start: TEXT | call", r'TEXT: ~/(?s:\s*\{\s*"name"\s*:.*)/', r'open[lazy]: /\{"name": /']


def _arguments(place: int, tool: Tool) -> dict[str, Any]:
    """Return the grammar of a tool's arguments as a part of another grammar."""
    (grammar,) = json.loads(grammar_of(_format(tool)))["grammars"]
    return {**grammar, "name": f"arguments_{place}"}


def _format(tool: Tool) -> JsonSchemaFormat:
    return JsonSchemaFormat(json_schema=arguments_schema(tool))
