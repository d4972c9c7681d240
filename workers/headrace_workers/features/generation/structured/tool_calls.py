"""Calls of tools in what a model said: found, and valid by their tools' schemas, or the reason why not. Pure.

A model is a stranger: it may call a tool that it was not offered, or write 200,000 characters of brackets. A reason
quotes nothing of what it said, since nobody has moderated that.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from headrace_schemas import GenerationJob
from headrace_schemas.errors import Unparsable
from headrace_schemas.limits import MAX_SHORT_TEXT, MAX_TEXT
from headrace_schemas.tool import Tool, ToolCall
from headrace_workers.core.ports import Completion
from headrace_workers.features.generation.structured.strict_json import NotJson, read_beginning, read_whole
from headrace_workers.features.generation.structured.tools import OPEN, arguments_schema, as_json, must_call, offered
from headrace_workers.features.generation.structured.validity import check_of

_NAMED: Final = ("arguments", "parameters")  # what a call's arguments are called, by dialect
_BEGINNING: Final = re.compile(r'\s*\{\s*"name"\s*:\s*"([A-Za-z0-9_-]{1,64})"\s*,')
_DEEPEST: Final = 128  # levels of arrays and objects in arguments


class Call(NamedTuple):
    """A call that is valid: the tool's name and the arguments, an object as JSON."""

    name: str
    arguments: str


def with_tools(completion: Completion, job: GenerationJob, job_id: str) -> Completion | Unparsable:
    """Return the completion with the call that is in it, or the reason why it is not as the job's `tool_choice` asks.

    An answer has one call: of several the first. The call's id follows from the job's.
    """
    tools = offered(job.tools, job.tool_choice)
    if not tools:
        return replace(completion, tool_calls=()) if completion.tool_calls else completion
    text, found = _found(completion, tools, forced=must_call(job.tool_choice))
    if isinstance(found, Unparsable):
        if completion.finish_reason == "length":
            return Unparsable(f"its tokens ended before its call did: {found}", "truncated", found.place)
        return found
    if found is None:
        return completion
    call = ToolCall(id=f"call_{job_id.replace('-', '')}", name=found.name, arguments=found.arguments)
    return replace(completion, text=text, finish_reason="tool_calls", tool_calls=(call,))


def calls_in(text: str, tools: Sequence[Tool], *, forced: bool) -> tuple[str, Call | Unparsable | None]:
    """Return the text before the first call, and that call, or why it is none. None where nothing is called.

    A call stands in `<tool_call>`, or is all that a text has. Raise nothing, whatever the text is.
    """
    if not _is_call(text, tools):
        before, opened, said = text.partition(OPEN)
        if opened:
            return before.strip(), _call_at_beginning(said.lstrip(), tools)
        if not forced:
            return text, None
    return "", _call_at_beginning(text.lstrip(), tools, whole=True)


def fault_of_calls(calls: Sequence[ToolCall], job: GenerationJob) -> Unparsable | None:
    """Return why an answer with these calls is not as the job's tools and `tool_choice` ask; None where it is."""
    tools = {each.name: each for each in offered(job.tools, job.tool_choice)}
    if not calls and tools and must_call(job.tool_choice):
        return Unparsable("a tool was to be called, and the answer calls none")
    for call in calls:
        fault = fault_of(tools[call.name], call.arguments) if call.name in tools else _not_offered(tools)
        if fault is not None:
            return fault
    return None


def fault_of(tool: Tool, arguments: str) -> Unparsable | None:
    """Return why these arguments, as JSON, are not what the tool takes; None where they are."""
    value = _arguments(arguments)
    return value if isinstance(value, Unparsable) else _fault(tool, value)


def _found(completion: Completion, tools: Sequence[Tool], *, forced: bool) -> tuple[str, Call | Unparsable | None]:
    """Return the text and the call: the one that the engine found, or the one in the text."""
    if not completion.tool_calls:
        return calls_in(completion.text, tools, forced=forced)
    first = completion.tool_calls[0]
    value = _arguments(first.arguments or "{}")  # providers leave out what is empty
    if isinstance(value, Unparsable):
        return "", value
    return completion.text, _call(first.name, value, tools)


def _arguments(text: str) -> Any:
    """Return the value of arguments that stand alone, or Unparsable."""
    try:
        return read_whole(text)
    except NotJson as error:
        return Unparsable(f"the arguments of a call are no JSON: {error}", place=error.place)


def _is_call(text: str, tools: Sequence[Tool]) -> bool:
    """Return True if a text begins as a call of an offered tool."""
    found = _BEGINNING.match(text)
    return found is not None and found[1] in [each.name for each in tools]


def _call_at_beginning(text: str, tools: Sequence[Tool], *, whole: bool = False) -> Call | Unparsable:
    """Return the call that a text begins with, which is all of it where it is to be the `whole`."""
    try:
        value, end = read_beginning(text)
    except NotJson as error:
        return Unparsable(f"a tool was to be called, and the call is no JSON: {error}")
    if whole and text[end:].strip():
        return Unparsable("a tool was to be called, and the answer goes on after the call", place=str(end))
    if not isinstance(value, dict) or not isinstance(name := value.pop("name", None), str):
        return Unparsable("a tool was to be called, and the call has no name")
    if len(value) != 1 or (key := next(iter(value))) not in _NAMED:
        return Unparsable("a tool was to be called, and the call must have a name and arguments, and nothing else")
    return _call(name, value[key], tools)


def _call(name: str, value: Any, tools: Sequence[Tool]) -> Call | Unparsable:
    tool = next((each for each in tools if each.name == name), None)
    if tool is None:
        return _not_offered([each.name for each in tools])
    if (fault := _fault(tool, value)) is not None:
        return fault
    arguments = as_json(value)
    if len(arguments) > MAX_TEXT:
        return Unparsable(f"the arguments of {name} have {len(arguments):,} characters; the limit is {MAX_TEXT:,}")
    return Call(name, arguments)


def _not_offered(names: Iterable[str]) -> Unparsable:
    known = ", ".join(names) or "none"
    return Unparsable(f"a tool is called that is not offered; offered are {known}"[:MAX_SHORT_TEXT])


def _fault(tool: Tool, value: Any) -> Unparsable | None:
    if not isinstance(value, dict):
        return Unparsable(f"the arguments of {tool.name} are no object", place="")
    if _is_deeper(value, _DEEPEST):
        return Unparsable(f"the arguments of {tool.name} are nested too deep: the limit is {_DEEPEST} levels")
    try:
        schema = arguments_schema(tool)
        check_of(schema, as_json(schema)).run(value)
    except Unparsable as fault:
        return Unparsable(f"the arguments of {tool.name} are not valid: {fault}", place=fault.place)
    return None


def _is_deeper(value: Any, than: int) -> bool:
    level = [value]
    for _ in range(than):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True
