"""Prompts with tools for models whose chat template knows none: tools are described in words, and turns about calls
become turns of the user and the assistant. Pure.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Final, Literal

from headrace_schemas import Answer, Message
from headrace_schemas.tool import Tool, ToolCall
from headrace_workers.features.generation.structured.tools import as_json, described

_OFFER: Final = (
    "You must call one of these tools, each of which is described in JSON:\n{tools}\n\n"
    'Answer with one JSON object and nothing else: {{"name": <the tool\'s name>, "arguments": <an object that its '
    "parameters describe>}}"
)


def in_words(messages: Sequence[Message], tools: Sequence[Tool]) -> tuple[Message, ...]:
    """Return the conversation with the tools in its system prompt, and without turns that only some templates know."""
    turns = _plain(messages)
    if not tools:
        return turns
    offer = _OFFER.format(tools="\n".join(as_json(described(each)["function"]) for each in tools))
    if turns and turns[0].role == "system":
        return (_turn("system", f"{turns[0].content}\n\n{offer}"), *turns[1:])
    return (_turn("system", offer), *turns)


def said_in(answer: Answer) -> str:
    """Return what a model said, its calls as JSON; nothing of an answer that is withheld."""
    return "\n".join([*filter(None, [answer.text]), *map(call_in_words, answer.tool_calls)])


def call_in_words(call: ToolCall) -> str:
    """Return a call as a model writes it that was told how in words."""
    return f'{{"name": {as_json(call.name)}, "arguments": {call.arguments}}}'


def _plain(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the turns, calls as JSON and results as the user's words. Results join the user's turns beside them."""
    if not any(each.tool_calls or each.role == "tool" for each in messages):
        return tuple(messages)
    names = {call.id: call.name for each in messages for call in each.tool_calls}
    turns: list[Message] = []
    for is_told, some in groupby(messages, key=lambda each: each.role in ("user", "tool")):
        told = list(some)
        if is_told and any(each.role == "tool" for each in told):
            turns.append(_turn("user", "\n\n".join(_said(each, names) for each in told)))
        else:
            turns += [_turn("assistant", _called(each)) if each.tool_calls else each for each in told]
    return tuple(turns)


def _said(message: Message, names: dict[str, str]) -> str:
    if message.role == "user":
        return message.content
    name = names.get(message.tool_call_id or "", "that you called")
    return f"The tool {name} returned:\n{message.content}"


def _called(message: Message) -> str:
    return "\n".join([*filter(None, [message.content]), *map(call_in_words, message.tool_calls)])


def _turn(role: Literal["system", "user", "assistant"], content: str) -> Message:
    """Return a turn that may be longer than a caller's: its parts were checked, and the context bounds the whole."""
    return Message.model_construct(_fields_set={"role", "content"}, role=role, content=content)
