"""Items of a response's input that name an item of an earlier response's output, instead of saying it again."""

from collections.abc import Mapping
from typing import Any, Final

from headrace_workers.features.generation.openai.request import Body
from headrace_workers.http.openai_errors import missing, wrong
from headrace_workers.http.openai_parameters import Parameters

REFERENCE: Final = "item_reference"
_MOST: Final = 256  # each is looked up, and may be as long as an answer
_ITEM: Final = Parameters(frozenset({"type", "id"}))


def references(asked: Body) -> dict[int, str]:
    """Return the ids of the items that the input refers to, by their places.

    Raise Refused for an invalid id, or too many.
    """
    given = asked.get("input")
    if not isinstance(given, list | tuple):
        return {}
    found = {
        place: _id(item, f"input[{place}]")
        for place, item in enumerate(given)
        if isinstance(item, Mapping) and item.get("type") == REFERENCE
    }
    if len(found) > _MOST:
        raise wrong("input", f"at most {_MOST} items may be references, not {len(found)}: send the others as they are")
    return found


def with_items(body: Body, items: Mapping[int, Any]) -> Body:
    """Return the body with these items at their places in the input."""
    if not items:
        return body
    return {**body, "input": [items.get(place, item) for place, item in enumerate(body["input"])]}


def _id(item: Mapping[str, Any], param: str) -> str:
    id = _ITEM.given(item, param).get("id")
    if id is None:
        raise missing(f"{param}.id")
    if not isinstance(id, str):
        raise wrong(f"{param}.id", "must be text")
    return id
