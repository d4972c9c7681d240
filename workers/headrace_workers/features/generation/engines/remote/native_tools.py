"""Tools, and turns about calls, in the words of a provider. Pure.

A provider whose entry lacks `tools` is told of them in words. What it calls is checked like any other answer.
"""

import json
from collections.abc import Sequence
from itertools import groupby, takewhile
from typing import Any

from headrace_schemas import Message
from headrace_schemas.output_format import JsonSchemaFormat, OutputFormat
from headrace_schemas.tool import Tool, ToolCall
from headrace_workers.core.ports import Request
from headrace_workers.features.generation.models.catalogue import RemoteModel
from headrace_workers.features.generation.structured.tools import (
    arguments_schema,
    as_json,
    described,
)
from headrace_workers.features.generation.structured.tools_in_prompt import in_words


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
            "properties": {"name": {"type": "string", "enum": [each.name]}, "arguments": arguments_schema(each)},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for each in tools
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
    about_calls = any(each.tool_calls or each.role == "tool" for each in messages)
    found: dict[str, Any] = {}
    if "tools" in model.lacks or (about_calls and not request.tools):
        messages = in_words(messages, offer._replace(most=1))
    elif offer:
        kind = "any" if offer.required else "auto"
        found["tools"] = [_anthropic_tool(tool) for tool in offer.tools]
        found["tool_choice"] = {"type": kind, "disable_parallel_tool_use": offer.most == 1}
    elif about_calls:
        found["tools"] = [_anthropic_tool(each) for each in request.tools]
        found["tool_choice"] = {"type": "none"}
    system = list(takewhile(lambda each: each.role == "system", messages))
    if system:
        found["system"] = "\n\n".join(each.content for each in system)
    return {**found, "messages": _anthropic_turns(messages[len(system) :])}


def _openai_turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_calls:
        turn["content"] = message.content or None
        turn["tool_calls"] = [_openai_call(each) for each in message.tool_calls]
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
    for is_result, some in groupby(messages, key=lambda each: each.role == "tool"):
        if is_result:
            turns.append({"role": "user", "content": [_anthropic_result(each) for each in some]})
        else:
            turns += [{"role": each.role, "content": _anthropic_content(each)} for each in some]
    return turns


def _anthropic_result(message: Message) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}


def _anthropic_content(message: Message) -> str | list[dict[str, Any]]:
    if not message.tool_calls:
        return message.content
    said = [{"type": "text", "text": message.content}] if message.content else []
    return said + [
        {"type": "tool_use", "id": each.id, "name": each.name, "input": _input(each.arguments)}
        for each in message.tool_calls
    ]


def _input(arguments: str) -> dict[str, Any]:
    """Return the arguments of a call of before. A caller may send broken ones; Anthropic takes objects alone."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return {"arguments": arguments}
    return value if isinstance(value, dict) else {"arguments": arguments}
