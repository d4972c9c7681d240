"""The messages of a job from a response's `input` and `instructions`."""

from collections.abc import Sequence
from typing import Any, Final

from headrace_schemas import Message
from headrace_workers.features.generation.openai.content import RESPONSE_PARTS, role_of, text_of
from headrace_workers.features.generation.openai.references import REFERENCE
from headrace_workers.features.generation.openai.request import Body
from headrace_workers.http.openai_errors import missing, unsupported, wrong
from headrace_workers.http.openai_parameters import Parameters

_ITEM: Final = Parameters(
    # id and status come with an item of an earlier response that is sent back.
    works=frozenset({"type", "role", "content", "id", "status"}),
    unmeant={"phase": ()},
)
_CALL: Final = Parameters(
    works=frozenset({"type", "call_id", "name", "arguments", "id", "status"}),
    refused={"async": (False,)},
    unmeant={"caller": (), "namespace": ()},
)
_RESULT: Final = Parameters(
    works=frozenset({"type", "call_id", "output", "id", "status"}),
    refused={"name": ()},
    unmeant={"caller": (), "namespace": ()},
)
_SEARCHED: Final = "file_search_call"  # of an earlier response: passages are looked up anew


def messages_of(asked: Body, earlier: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the instructions, the conversation before, and the input, as messages in this order.

    Refused names what is no message of text, and no function's call or result.
    """
    instructions = asked.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise wrong("instructions", "must be text")
    first = [] if instructions is None else [{"role": "system", "content": instructions}]
    before = [each.model_dump(mode="json", exclude_defaults=True) for each in earlier]
    return [*first, *before, *input_messages(asked, [call.id for each in earlier for call in each.tool_calls])]


def input_messages(asked: Body, earlier_calls: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the input alone, as messages. Calls stand in the assistant's message before them.

    `earlier_calls` are the ids of calls in the conversation before, whose results the input may have.
    """
    given = asked.get("input")
    if given is None:
        raise missing("input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list | tuple) or not given:
        raise wrong("input", "must be text, or a list of at least one item")
    messages: list[dict[str, Any]] = []
    called = [*earlier_calls]
    for place, item in enumerate(given):
        kind = item.get("type") if isinstance(item, dict) else None
        param = f"input[{place}]"
        if kind == "function_call":
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": ""})
            call = _call(item, param)
            messages[-1].setdefault("tool_calls", []).append(call)
            called.append(call["id"])
        elif kind == "function_call_output":
            result = _result(item, param)
            if result["tool_call_id"] not in called:
                raise wrong(f"{param}.call_id", "names no call before it: send the call, too, or previous_response_id")
            messages.append(result)
        elif kind != _SEARCHED:
            messages.append(_message(item, param))
    return messages


def _call(item: Any, param: str) -> dict[str, Any]:
    given = _required(_CALL.given(item, param), ("call_id", "name", "arguments"), param)
    return {"id": given["call_id"], "name": given["name"], "arguments": given["arguments"]}


def _result(item: Any, param: str) -> dict[str, Any]:
    given = _required(_RESULT.given(item, param), ("call_id", "output"), param)
    text = text_of(given["output"], RESPONSE_PARTS, f"{param}.output")
    return {"role": "tool", "content": text, "tool_call_id": given["call_id"]}


def _required(given: dict[str, Any], names: Sequence[str], param: str) -> dict[str, Any]:
    for name in names:
        if name not in given:
            raise missing(f"{param}.{name}")
    return given


def _message(item: Any, param: str) -> dict[str, str]:
    kind = item.get("type", "message") if isinstance(item, dict) else "message"
    if kind == REFERENCE:  # a gateway has put the items there before; a line of a batch is read by itself
        raise unsupported(f"{param}.type", "earlier responses are not at hand here: send the item itself")
    if kind != "message":
        raise unsupported(
            f"{param}.type", "must be message, function_call or function_call_output: headrace reads text only"
        )
    given = _ITEM.given(item, param)
    if "content" not in given:
        raise missing(f"{param}.content")
    return {
        "role": role_of(given.get("role"), f"{param}.role"),
        "content": text_of(given["content"], RESPONSE_PARTS, f"{param}.content"),
    }
