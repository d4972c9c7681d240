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
_SEARCHED: Final = "file_search_call"  # of an earlier response: passages are looked up anew


def messages_of(asked: Body, earlier: Sequence[Message]) -> list[dict[str, str]]:
    """Return the instructions, the conversation before, and the input, as messages in this order.

    Refused names what is no message of text.
    """
    instructions = asked.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise wrong("instructions", "must be text")
    first = [] if instructions is None else [{"role": "system", "content": instructions}]
    before = [{"role": each.role, "content": each.content} for each in earlier]
    return [*first, *before, *input_messages(asked)]


def input_messages(asked: Body) -> list[dict[str, str]]:
    """Return the input alone, as messages."""
    given = asked.get("input")
    if given is None:
        raise missing("input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list | tuple) or not given:
        raise wrong("input", "must be text, or a list of at least one item")
    return [
        _message(item, f"input[{place}]")
        for place, item in enumerate(given)
        if not (isinstance(item, dict) and item.get("type") == _SEARCHED)
    ]


def _message(item: Any, param: str) -> dict[str, str]:
    kind = item.get("type", "message") if isinstance(item, dict) else "message"
    if kind == REFERENCE:  # a gateway has put the items there before; a line of a batch is read by itself
        raise unsupported(f"{param}.type", "earlier responses are not at hand here: send the item itself")
    if kind != "message":
        raise unsupported(f"{param}.type", "must be message: headrace reads text only")
    given = _ITEM.given(item, param)
    if "content" not in given:
        raise missing(f"{param}.content")
    return {
        "role": role_of(given.get("role"), f"{param}.role"),
        "content": text_of(given["content"], RESPONSE_PARTS, f"{param}.content"),
    }
