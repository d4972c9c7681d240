"""The text of an answer for moderation: with the values in the arguments of its calls, which tools will read. Pure.

JSON is not moderated as it stands, since its escapes hide words: each text, number and name of a field is a part of its
own. Redaction changes the parts, and the arguments are made of them again.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from headrace_schemas import Answer, Message
from headrace_schemas.tool import Tool
from headrace_workers.features.generation.structured.tool_calls import fault_of
from headrace_workers.features.generation.structured.tools import as_json

_DASHES: Final = re.compile(r"-+")


def text_of(answer: Answer) -> str:
    """Return the text of an answer, and after it the values of its calls, each in a part of its own."""
    if not answer.tool_calls:
        return answer.text or ""
    parts = _parts(answer)
    return _between(parts).join(parts)


def with_redacted(answer: Answer, text: str, tools: Sequence[Tool]) -> Answer | None:
    """Return the answer whose text and arguments are those of a redacted `text_of`. None where they cannot be:
    arguments would not be what their tool takes.
    """
    parts = _parts(answer)
    between = _between(parts)
    found = text.split(between)
    if len(found) != len(parts):  # what is redacted reaches over the end of a part
        return None
    left = iter(found)
    said = answer.with_text(next(left))
    by_name = {each.name: each for each in tools}
    calls = []
    for call in answer.tool_calls:
        arguments = as_json(_rebuilt(json.loads(call.arguments), left))
        if call.name not in by_name or fault_of(by_name[call.name], arguments) is not None:
            return None
        calls.append(call.model_copy(update={"arguments": arguments}))
    return said.model_copy(update={"tool_calls": tuple(calls)})


def called_with(turn: Message) -> Iterator[str]:
    """Yield the values of the calls in a turn; a caller may send arguments that are no JSON, which are texts."""
    for call in turn.tool_calls:
        try:
            value = json.loads(call.arguments)
        except (ValueError, RecursionError):
            value = call.arguments
        yield from words_in(value)


def words_in(value: Any) -> Iterator[str]:
    """Yield the names, texts and numbers in a value of any depth, in no order that counts."""
    todo = [value]
    while todo:
        match todo.pop():
            case dict() as inner:
                yield from inner
                todo += inner.values()
            case list() as inner:
                todo += inner
            case str() as word:
                yield word
            case bool() | None:
                pass
            case number:
                yield as_json(number)


def _parts(answer: Answer) -> list[str]:
    values = (json.loads(call.arguments) for call in answer.tool_calls)
    return [answer.text or "", *(part for value in values for part in _leaves(value))]


def _leaves(value: Any) -> Iterator[str]:
    """Yield the names, texts and numbers in a value, in the order in which `_rebuilt` takes them."""
    match value:
        case dict():
            for name, each in value.items():
                yield name
                yield from _leaves(each)
        case list():
            for each in value:
                yield from _leaves(each)
        case str():
            yield value
        case bool() | None:
            return
        case _:
            yield as_json(value)


def _rebuilt(value: Any, parts: Iterator[str]) -> Any:
    """Return a value with other names, texts and numbers. A number that was redacted is a text."""
    match value:
        case dict():
            return {next(parts): _rebuilt(each, parts) for each in value.values()}
        case list():
            return [_rebuilt(each, parts) for each in value]
        case str():
            return next(parts)
        case bool() | None:
            return value
        case _:
            part = next(parts)
            return value if part == as_json(value) else part


def _between(parts: Sequence[str]) -> str:
    """Return a line of dashes that is in none of the parts."""
    longest = max((len(run) for part in parts for run in _DASHES.findall(part)), default=0)
    return f"\n{'-' * max(3, longest + 1)}\n"
