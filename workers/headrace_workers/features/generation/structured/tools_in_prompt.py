"""Prompts with tools for models whose chat template knows none: tools are described in words, and turns about calls
become turns of the user and the assistant. Pure.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Final, Literal

from headrace_schemas import Answer, Message
from headrace_schemas.tool import Offer, ToolCall
from headrace_workers.features.generation.structured.tools import CLOSE, OPEN, as_json, described

_CALL: Final = '{"name": <the tool\'s name>, "arguments": <an object that its parameters describe>}'
_REQUIRED: Final = "You must call one of these tools, each of which is described in JSON:"
_ALLOWED: Final = "You may call these tools, each of which is described in JSON:"
_SEVERAL: Final = "To call several, write one call after the other, each on a line of its own."
_NO_CALL: Final = "If no tool helps, answer without a call."


def in_words(messages: Sequence[Message], offer: Offer) -> tuple[Message, ...]:
    """Return the conversation with the tools in its system prompt, and without turns that only some templates know."""
    turns = _plain(messages, tagged=offer.beside_format)
    if not offer:
        return turns
    told = _told(offer)
    if turns and turns[0].role == "system":
        return (_turn("system", f"{turns[0].content}\n\n{told}"), *turns[1:])
    return (_turn("system", told), *turns)


def said_in(answer: Answer) -> str:
    """Return what a model said, its calls as JSON; nothing of an answer that is withheld."""
    return "\n".join([*filter(None, [answer.text]), *map(call_in_words, answer.tool_calls)])


def call_in_words(call: ToolCall) -> str:
    """Return a call as a model writes it that was told how in words."""
    return f'{{"name": {as_json(call.name)}, "arguments": {call.arguments}}}'


def _told(offer: Offer) -> str:
    """Return the words that describe the tools, and how to call them."""
    tools = "\n".join(as_json(described(tool)["function"]) for tool in offer.tools)
    several = [_SEVERAL] if offer.most > 1 else []
    if offer.required:
        lines = [_REQUIRED, tools, "", f"Answer with one JSON object and nothing else: {_CALL}", *several]
    else:
        call = f"{OPEN}\n{_CALL}\n{CLOSE}" if offer.beside_format else _CALL
        lines = [_ALLOWED, tools, "", "To call one, answer with this and nothing else:", call, *several, _NO_CALL]
    return "\n".join(lines)


def _plain(messages: Sequence[Message], *, tagged: bool) -> tuple[Message, ...]:
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
            turns += [_turn("assistant", _called(each, tagged=tagged)) if each.tool_calls else each for each in told]
    return tuple(turns)


def _said(message: Message, names: dict[str, str]) -> str:
    if message.role == "user":
        return message.content
    name = names.get(message.tool_call_id or "", "that you called")
    return f"The tool {name} returned:\n{message.content}"


def _called(message: Message, *, tagged: bool) -> str:
    calls = list(map(call_in_words, message.tool_calls))
    if tagged:
        calls = [f"{OPEN}\n{call}\n{CLOSE}" for call in calls]
    return "\n".join([*filter(None, [message.content]), *calls])


def _turn(role: Literal["system", "user", "assistant"], content: str) -> Message:
    """Return a turn that may be longer than a caller's: its parts were checked, and the context bounds the whole."""
    return Message.model_construct(_fields_set={"role", "content"}, role=role, content=content)
