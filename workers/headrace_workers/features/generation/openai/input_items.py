"""GET /v1/responses/{response_id}/input_items: what a response was asked with, item by item."""

from collections.abc import Sequence
from typing import Any, Literal

from headrace_workers.features.generation.openai.request import Body
from headrace_workers.http.openai_errors import wrong


def input_items(asked: Body, job_id: str) -> list[dict[str, Any]]:
    """Return the items of a response's `input`, in order, each with an id of its own.

    `asked` was accepted when it was sent.
    """
    given = asked["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    return [_item(item, f"in_{job_id}_{place}") for place, item in enumerate(items)]


def page(
    items: Sequence[dict[str, Any]], *, after: str | None, limit: int, order: Literal["asc", "desc"]
) -> dict[str, Any]:
    """Return `limit` items after the item `after`. Raise Refused where there is no item of that id."""
    ordered = list(items) if order == "asc" else list(reversed(items))
    if after is not None:
        places = [place for place, each in enumerate(ordered) if each["id"] == after]
        if not places:
            raise wrong("after", "is no item of this response")
        ordered = ordered[places[0] + 1 :]
    data = ordered[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(ordered) > limit,
    }


def _item(item: dict[str, Any], id: str) -> dict[str, Any]:
    if "content" not in item:  # a search of an earlier response, which came back with its output
        return {**item, "id": id}
    said = item["content"]
    if isinstance(said, str):
        said = [{"type": "output_text" if item["role"] == "assistant" else "input_text", "text": said}]
    parts = [{"annotations": [], **part} if part["type"] == "output_text" else part for part in said]
    return {"id": id, "type": "message", "role": item["role"], "status": "completed", "content": parts}
