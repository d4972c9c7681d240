"""Formats and tools in the words of a provider. Pure.

Each provider takes a subset of JSON Schema. A schema is weakened to it: keywords that only restrict a value are left
out, and objects are closed. The prompt names the whole schema, and the answer is checked by it. A provider whose entry
lacks `tools` is told of them in words. Its calls are checked like any other answer.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, takewhile
from typing import Any, Final

from headrace_schemas import Message
from headrace_schemas.output_format import (
    ChoiceFormat,
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    OutputFormat,
    RegexFormat,
)
from headrace_schemas.tool import Tool, ToolCall
from headrace_workers.models.catalogue import RemoteModel
from headrace_workers.models.generator import Request
from headrace_workers.models.structured.tools import arguments_schema, as_json, described, in_words

_KEPT: Final = frozenset({"$ref", "const", "description", "enum", "title", "type"})
_RESTRICT: Final = frozenset(
    {
        "$comment", "$id", "$schema", "contains", "default", "dependencies", "dependentRequired", "dependentSchemas",
        "deprecated", "else", "examples", "exclusiveMaximum", "exclusiveMinimum", "format", "id", "if", "maxContains",
        "maxItems", "maxLength", "maxProperties", "maximum", "minContains", "minItems", "minLength", "minProperties",
        "minimum", "multipleOf", "not", "pattern", "propertyNames", "readOnly", "then", "uniqueItems", "writeOnly",
    }
)  # fmt: skip
_DEEPEST: Final = 10  # levels that OpenAI takes, and we try for others
_MOST_PROPERTIES: Final = 5_000
_MOST_VALUES: Final = 1_000  # of all enums
_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")


class _Beyond(ValueError):
    """A schema that cannot be weakened to the subset."""


def openai_body(output: OutputFormat | None, model: RemoteModel) -> dict[str, Any]:
    """Return the parameters that ask an OpenAI-compatible endpoint for a format; none where it takes no such."""
    if output is None or output.type not in model.formats:
        return {}
    match output:
        case JsonObjectFormat():
            return {"response_format": {"type": "json_object"}}
        case ChoiceFormat(choices=choices):
            return _structured(choice=list(choices))
        case RegexFormat(pattern=pattern):
            return _structured(regex=pattern)
        case GrammarFormat(grammar=grammar):
            return _structured(grammar=grammar)
    schema, strict = output.json_schema, False
    if model.provider == "openai" and (weaker := openai_schema(schema)) is not None:
        schema, strict = weaker, True
    named = {"name": _name(output), "schema": schema, "strict": strict}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def anthropic_body(output: OutputFormat | None, model: RemoteModel) -> dict[str, Any]:
    """Return the parameters that ask Anthropic for a format; none where it takes no such."""
    if not isinstance(output, JsonSchemaFormat) or output.type not in model.formats:
        return {}
    schema = anthropic_schema(output.json_schema)
    return {} if schema is None else {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def openai_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a schema weakened to OpenAI's strict subset, in which an object has all of its properties; None where that
    cannot be.
    """
    found = _weakened_or_none(schema)
    if found is None or found.get("type") != "object":
        return None
    every = [part for part in _objects(found) if set(part.get("required", ())) != set(part["properties"])]
    return None if every else found


def anthropic_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a schema weakened to Anthropic's subset, which knows no recursion; None where that cannot be."""
    found = _weakened_or_none(schema)
    return None if found is None or _is_recursive(found) else found


def _structured(**constraint: Any) -> dict[str, Any]:
    """Return the parameter by which vLLM takes formats that OpenAI does not know."""
    return {"structured_outputs": constraint}


def _name(output: JsonSchemaFormat) -> str:
    return _NAME.sub("_", output.name or "")[:64] or "answer"


def _weakened_or_none(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        found = _weakened(schema, _DEEPEST)
    except _Beyond:
        return None
    values = sum(len(part["enum"]) for part in _parts(found) if "enum" in part)
    properties = sum(len(part["properties"]) for part in _objects(found))
    return None if values > _MOST_VALUES or properties > _MOST_PROPERTIES else found


def _weakened(schema: object, levels: int) -> dict[str, Any]:
    """Return a schema that all valid answers of a closed kind satisfy, in the keywords that every provider takes."""
    if not isinstance(schema, Mapping) or levels < 0:
        raise _Beyond
    found: dict[str, Any] = {}
    for name, value in schema.items():
        match name, value:
            case (("$defs" | "definitions" | "properties"), Mapping()):
                found[name] = {key: _weakened(item, levels - 1) for key, item in value.items()}
            case (("anyOf" | "oneOf"), list()) if "anyOf" not in found:
                found["anyOf"] = [_weakened(item, levels - 1) for item in value]
            case "items", Mapping():
                found[name] = _weakened(value, levels - 1)
            case "required", list():
                found[name] = value
            case "additionalProperties", False:
                found[name] = False
            case _ if name in _KEPT:
                found[name] = value
            case _ if name not in _RESTRICT:
                raise _Beyond
    return _closed(found)


def _closed(found: dict[str, Any]) -> dict[str, Any]:
    """Return a weakened schema whose objects have no properties but those that it names. Raise _Beyond where it names
    no type, or would forbid what it should not.
    """
    ref, types = found.get("$ref"), found.get("type")
    kinds = types if isinstance(types, list) else [types]
    if ref is not None and not (isinstance(ref, str) and ref.startswith("#")):
        raise _Beyond
    if not found.keys() & {"$ref", "type", "anyOf", "enum", "const"}:
        raise _Beyond
    if "properties" in found and found.keys() & {"$ref", "anyOf"}:
        raise _Beyond  # each would forbid the properties of the other
    if "array" in kinds and "items" not in found:
        raise _Beyond
    if "object" not in kinds:
        return found
    if "properties" not in found and found.get("additionalProperties") is not False:
        raise _Beyond  # a map of any keys, which would be empty
    properties = found.setdefault("properties", {})
    if not set(found.get("required", ())) <= set(properties):
        raise _Beyond
    return {**found, "additionalProperties": False}


def _parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a weakened schema and all schemas in it."""
    yield schema
    for name in ("$defs", "definitions", "properties"):
        for item in schema.get(name, {}).values():
            yield from _parts(item)
    for item in schema.get("anyOf", ()):
        yield from _parts(item)
    if "items" in schema:
        yield from _parts(schema["items"])


def _objects(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (part for part in _parts(schema) if "properties" in part)


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    """Return True if a definition leads back to itself, or a reference names anything but a definition."""
    named = {
        f"#/{place}/{name}": {part["$ref"] for part in _parts(definition) if "$ref" in part}
        for place in ("$defs", "definitions")
        for name, definition in schema.get(place, {}).items()
    }
    left = {part["$ref"] for part in _parts(schema) if "$ref" in part}
    if not left <= named.keys():
        return True
    done: set[str] = set()
    while ready := [name for name, refs in named.items() if name not in done and refs <= done]:
        done.update(ready)
    return len(done) < len(named)


def openai_tools(request: Request, model: RemoteModel) -> dict[str, Any]:
    """Return the messages, and the tools if any are offered, as parameters of a chat completion.

    A named tool is the only one that is offered: not every server takes a name as `tool_choice`.
    """
    offer = request.offer
    if "tools" in model.lacks:
        return {"messages": [_openai_turn(turn) for turn in in_words(request.messages, offer._replace(most=1))]}
    turns = [_openai_turn(turn) for turn in request.messages]
    if not offer:
        return {"messages": turns}
    return {
        "messages": turns,
        "tools": [described(tool) for tool in offer.tools],
        "tool_choice": "required" if offer.required else "auto",
        "parallel_tool_calls": offer.most > 1,
    }


def native_format(request: Request, model: RemoteModel) -> OutputFormat | None:
    """Return the format that the provider is to hold the answer to; None where there is none, or a call may stand in
    the way of it. A provider that takes no tools is given the format of a call that must be made.

    Schemas that refer to their own parts say something else inside another schema: those are left out.
    """
    tools = request.offer.tools
    if not tools:
        return request.output
    if "tools" not in model.lacks:
        return request.output if request.offer.beside_format else None
    if not request.offer.required:
        return None
    calls = [
        {
            "type": "object",
            "properties": {"name": {"type": "string", "enum": [tool.name]}, "arguments": arguments_schema(tool)},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    if '"$ref"' in as_json(calls):
        return None
    return JsonSchemaFormat(json_schema=calls[0] if len(calls) == 1 else {"anyOf": calls}, in_prompt=False)


def anthropic_tools(request: Request, model: RemoteModel) -> dict[str, Any]:
    """Return the messages, and the tools if any are offered, as parameters of Anthropic's messages API. System messages
    at the beginning stand beside the conversation.

    Turns about calls need a description of tools there, so they are told in words where a request has none.
    """
    messages, offer = request.messages, request.offer
    about_calls = any(message.tool_calls or message.role == "tool" for message in messages)
    found: dict[str, Any] = {}
    if "tools" in model.lacks or (about_calls and not request.tools):
        messages = in_words(messages, offer._replace(most=1))
    elif offer:
        kind = "any" if offer.required else "auto"
        found["tools"] = [_anthropic_tool(tool) for tool in offer.tools]
        found["tool_choice"] = {"type": kind, "disable_parallel_tool_use": offer.most == 1}
    elif about_calls:
        found["tools"] = [_anthropic_tool(tool) for tool in request.tools]
        found["tool_choice"] = {"type": "none"}
    system = list(takewhile(lambda message: message.role == "system", messages))
    if system:
        found["system"] = "\n\n".join(turn.content for turn in system)
    return {**found, "messages": _anthropic_turns(messages[len(system) :])}


def _openai_turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_calls:
        turn["content"] = message.content or None
        turn["tool_calls"] = [_openai_call(tool_call) for tool_call in message.tool_calls]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _openai_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _anthropic_tool(tool: Tool) -> dict[str, Any]:
    schema = described(tool)["function"]["parameters"]
    told = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **told, "input_schema": {**schema, "type": "object"}}


def _anthropic_turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the turns; results of calls in a row are one turn of the user."""
    turns: list[dict[str, Any]] = []
    for is_result, some in groupby(messages, key=lambda message: message.role == "tool"):
        if is_result:
            turns.append({"role": "user", "content": [_anthropic_result(message) for message in some]})
        else:
            turns += [{"role": message.role, "content": _anthropic_content(message)} for message in some]
    return turns


def _anthropic_result(message: Message) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}


def _anthropic_content(message: Message) -> str | list[dict[str, Any]]:
    if not message.tool_calls:
        return message.content
    said = [{"type": "text", "text": message.content}] if message.content else []
    return said + [
        {"type": "tool_use", "id": tool_call.id, "name": tool_call.name, "input": _input(tool_call.arguments)}
        for tool_call in message.tool_calls
    ]


def _input(arguments: str) -> dict[str, Any]:
    """Return the arguments of a call of before. A caller may send broken ones; Anthropic takes objects alone."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return {"arguments": arguments}
    return value if isinstance(value, dict) else {"arguments": arguments}
