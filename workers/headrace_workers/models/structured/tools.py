"""Tools that a model may call: which ones it is offered, how it writes a call, and the words of a prompt about tools
and formats. Light, since the bridge imports it.
"""

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import groupby
from typing import Any, Final, Literal

from headrace_schemas import Answer, GenerationJob, Message
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.output_format import ChoiceFormat, GrammarFormat, JsonObjectFormat, OutputFormat, RegexFormat
from headrace_schemas.tool import Offer, Tool, ToolCall

MAX_TOOLS_BYTES: Final = 256 * 1024  # of all tools of a job, as JSON
OPEN: Final = "<tool_call>"
CLOSE: Final = "</tool_call>"

_CALL: Final = '{"name": <the tool\'s name>, "arguments": <an object that its parameters describe>}'
_REQUIRED: Final = "You must call one of these tools, each of which is described in JSON:"
_ALLOWED: Final = "You may call these tools, each of which is described in JSON:"
_SEVERAL: Final = "To call several, write one call after the other, each on a line of its own."
_NO_CALL: Final = "If no tool helps, answer without a call."
_ALONE: Final = "Write nothing before or after it."


class Dialect(StrEnum):
    """The way in which a model writes a call. `JSON` is asked of models whose template knows no tools."""

    HERMES = "hermes"  # Qwen and others: <tool_call>\n{"name": …, "arguments": …}\n</tool_call>
    HERMES_TOKENS = "hermes with tokens"  # the same, with tags that are tokens of their own
    LLAMA = "llama"  # Llama 3.1 and later: {"name": …, "parameters": …}
    JSON = "json"  # {"name": …, "arguments": …}

    @property
    def arguments(self) -> str:
        """Return the name under which the arguments stand."""
        return "parameters" if self is Dialect.LLAMA else "arguments"


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
    return sum(len(as_json(described(tool)).encode("utf-8", "surrogatepass")) for tool in tools)


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


def check_choice(job: GenerationJob, knows_tools: Callable[[str], bool]) -> None:
    """Raise InvalidRecord where a model of the job cannot choose whether to call a tool."""
    if not job.tools or job.tool_choice not in (None, "auto"):
        return
    if unable := next((alias for alias in job.chain if not knows_tools(alias)), None):
        raise InvalidRecord(
            f"the model {unable} cannot choose whether to call a tool: its provider takes no tools. Set tool_choice to "
            "required or to the name of a tool, or name another model",
            param="tool_choice",
            code="unsupported_parameter",
        )


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
    if not any(message.tool_calls or message.role == "tool" for message in messages):
        return tuple(messages)
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    turns: list[Message] = []
    for is_told, some in groupby(messages, key=lambda message: message.role in ("user", "tool")):
        told = list(some)
        if is_told and any(turn.role == "tool" for turn in told):
            turns.append(_turn("user", "\n\n".join(_said(turn, names) for turn in told)))
        else:
            turns += [_turn("assistant", _called(turn, tagged=tagged)) if turn.tool_calls else turn for turn in told]
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


def with_format(messages: Sequence[Message], job: GenerationJob) -> tuple[Message, ...]:
    """Return a conversation that names the format which its answer must have, once.

    A system message at the beginning ends with it, so that jobs of one format share the beginning of their prompts;
    else the last turn of the user does, since not every template knows system messages.
    """
    words = None if job.output is None or job.offer.required else _in_words(job.output)
    if words is None or not messages:
        return tuple(messages)
    if job.offer:
        words = f"Unless you call a tool: {words}"
    users = [place for place, message in enumerate(messages) if message.role == "user"]
    if messages[0].role != "system" and not users:
        return (*messages, Message(role="user", content=words))
    place = 0 if messages[0].role == "system" else users[-1]
    changed = messages[place].model_copy(update={"content": f"{messages[place].content}\n\n{words}"})
    return (*messages[:place], changed, *messages[place + 1 :])


def _in_words(output: OutputFormat) -> str | None:
    """Return the instruction for a format; None where the job wants none."""
    match output:
        case JsonObjectFormat():
            return f"Answer with a JSON object. {_ALONE}"
        case ChoiceFormat(choices=choices):
            listed = "\n".join(f"- {choice}" for choice in choices)
            return f"Answer with one of these texts, exactly as it stands here. {_ALONE}\n{listed}"
        case RegexFormat(pattern=pattern):
            return f"Answer with text that this regular expression matches as a whole. {_ALONE}\n{pattern}"
        case GrammarFormat(grammar=grammar):
            return f"Answer with text that this grammar (in Lark's notation) derives. {_ALONE}\n{grammar}"
        case _ if not output.in_prompt:
            return None
    named = f" of the format {output.name}" if output.name else ""
    return f"Answer with JSON{named} that is valid by this JSON Schema. {_ALONE}\n{output.as_json}"
