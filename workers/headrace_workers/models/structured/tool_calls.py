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
from headrace_schemas.tool import MAX_CALLS, Offer, Tool, ToolCall
from headrace_workers.models.generator import Completion
from headrace_workers.models.structured.tools import CLOSE, OPEN, arguments_schema, as_json
from headrace_workers.models.structured.validity import NotJson, check_of, read_beginning, read_whole

_NAMED: Final = ("arguments", "parameters")  # what a call's arguments are called, by dialect
_BEGINNING: Final = re.compile(r'\s*\{\s*"name"\s*:\s*"([A-Za-z0-9_-]{1,64})"\s*,')
_DEEPEST: Final = 128  # levels of arrays and objects in arguments


class Call(NamedTuple):
    """A call that is valid: the tool's name and the arguments, an object as JSON."""

    name: str
    arguments: str


def with_tools(completion: Completion, job: GenerationJob, job_id: str) -> Completion | Unparsable:
    """Return the completion with the calls that are in it, or the reason why it is not as the job's tools ask.

    Each call must be valid. The calls' ids follow from the job's.
    """
    offer = job.offer
    if not offer:
        return replace(completion, tool_calls=()) if completion.tool_calls else completion
    text, calls, rest = _calls_of(completion, offer)
    if isinstance(calls, Unparsable):
        if completion.finish_reason == "length":
            return Unparsable(f"its tokens ended before its call did: {calls}", "truncated", calls.place)
        return calls
    if not calls:
        return completion
    if completion.finish_reason == "length" and len(calls) < offer.most and not CLOSE.startswith(rest):
        return Unparsable("its tokens ended before its last call did", "truncated")
    call_id = f"call_{job_id.replace('-', '')}"
    named = tuple(
        ToolCall(id=call_id if number == 1 else f"{call_id}_{number}", name=call.name, arguments=call.arguments)
        for number, call in enumerate(calls, 1)
    )
    return replace(completion, text=text, finish_reason="tool_calls", tool_calls=named)


def calls_in(text: str, offer: Offer) -> tuple[str, list[Call] | Unparsable, str]:
    """Return the text before the first call, the calls or why they are wrong, and what follows the last.

    Calls stand in `<tool_call>`, or are all that a text has; where the answer may have a format instead, it begins with
    `<tool_call>` if it calls. At most `offer.most` calls are read. Raise nothing, whatever the text is.
    """
    if offer.beside_format and not text.lstrip().startswith(OPEN):
        return text, [], ""
    if offer.beside_format or not _is_call(text, offer.tools):
        before, opened, said = text.partition(OPEN)
        if opened:
            return before.strip(), *_read(OPEN + said, offer, tagged=True)
        if not offer.required:
            return text, [], ""
    return "", *_read(text, offer, tagged=False)


def fault_of_calls(calls: Sequence[ToolCall], job: GenerationJob) -> Unparsable | None:
    """Return why an answer with these calls is not as the job's tools and `tool_choice` ask; None where it is."""
    offer = job.offer
    tools = {tool.name: tool for tool in offer.tools}
    if not calls and offer.required:
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


def _calls_of(completion: Completion, offer: Offer) -> tuple[str, list[Call] | Unparsable, str]:
    """Return what `calls_in` returns, of the calls that the engine found, or of those in the text."""
    if not completion.tool_calls:
        return calls_in(completion.text, offer)
    if offer.most > 1 and len(completion.tool_calls) > MAX_CALLS:
        return "", Unparsable(f"the answer has more than {MAX_CALLS} calls of tools"), ""
    calls = []
    for asked in completion.tool_calls[: offer.most]:
        value = _arguments(asked.arguments or "{}")  # providers leave out what is empty
        call = value if isinstance(value, Unparsable) else _call(asked.name, value, offer.tools)
        if isinstance(call, Unparsable):
            return "", call, ""
        calls.append(call)
    return completion.text, calls, ""


def _read(text: str, offer: Offer, *, tagged: bool) -> tuple[list[Call] | Unparsable, str]:
    """Return the calls that a text begins with, at least one, or why they are wrong; and what follows the last."""
    calls: list[Call] = []
    rest = text.strip()
    while len(calls) < offer.most and (OPEN in rest if tagged else rest or not calls):
        said = rest.partition(OPEN)[2].lstrip() if tagged else rest
        try:
            value, end = read_beginning(said)
        except NotJson as error:
            return Unparsable(f"a tool was to be called, and the call is no JSON: {error}"), ""
        call = _call_of(value, offer.tools)
        if isinstance(call, Unparsable):
            return call, ""
        calls.append(call)
        rest = said[end:].strip()
        if tagged:
            rest = rest.removeprefix(CLOSE).strip()
        elif rest and (len(calls) == offer.most or not rest.startswith("{")):
            place = str(len(text.rstrip()) - len(rest))
            return Unparsable("a tool was to be called, and the answer goes on after the call", place=place), ""
    return calls, rest


def _arguments(text: str) -> Any:
    """Return the value of arguments that stand alone, or Unparsable."""
    try:
        return read_whole(text)
    except NotJson as error:
        return Unparsable(f"the arguments of a call are no JSON: {error}", place=error.place)


def _is_call(text: str, tools: Sequence[Tool]) -> bool:
    """Return True if a text begins as a call of an offered tool."""
    match = _BEGINNING.match(text)
    return match is not None and match[1] in [tool.name for tool in tools]


def _call_of(value: Any, tools: Sequence[Tool]) -> Call | Unparsable:
    """Return the call that a JSON value is."""
    if not isinstance(value, dict) or not isinstance(name := value.pop("name", None), str):
        return Unparsable("a tool was to be called, and the call has no name")
    if len(value) != 1 or (key := next(iter(value))) not in _NAMED:
        return Unparsable("a tool was to be called, and the call must have a name and arguments, and nothing else")
    return _call(name, value[key], tools)


def _call(name: str, value: Any, tools: Sequence[Tool]) -> Call | Unparsable:
    tool = next((item for item in tools if item.name == name), None)
    if tool is None:
        return _not_offered([item.name for item in tools])
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
            for item in level
            if isinstance(item, (dict, list))
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
