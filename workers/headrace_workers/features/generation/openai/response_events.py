"""A finished response as the events of a stream: it begins, each item is there with its text in pieces, it ends."""

from collections.abc import Iterator
from typing import Any

from headrace_workers.features.generation.openai.request import Body
from headrace_workers.features.generation.openai.text_chunks import pieces

Event = dict[str, Any]


def events(body: Body) -> Iterator[Event]:
    """Yield each event with its number in the stream. The last is `response.completed`, or `response.incomplete`."""
    for number, event in enumerate(_events(body)):
        yield {**event, "sequence_number": number}


def _events(body: Body) -> Iterator[Event]:
    begun = {
        **body, "status": "in_progress", "output": [], "usage": None, "completed_at": None, "incomplete_details": None
    }  # fmt: skip
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for place, item in enumerate(body["output"]):
        empty: dict[str, Any] = {name: value for name, value in (("content", []), ("arguments", "")) if name in item}
        unwritten = {**item, "status": "in_progress", **empty}
        yield {"type": "response.output_item.added", "output_index": place, "item": unwritten}
        for number, part in enumerate(item.get("content", ())):
            where = {"item_id": item["id"], "output_index": place, "content_index": number}
            yield from _part(part, where)
        if "arguments" in item:
            yield from _arguments(item["arguments"], {"item_id": item["id"], "output_index": place})
        yield {"type": "response.output_item.done", "output_index": place, "item": item}
    yield {"type": f"response.{body['status']}", "response": body}


def _arguments(arguments: str, where: dict[str, Any]) -> Iterator[Event]:
    for piece in pieces(arguments):
        yield {"type": "response.function_call_arguments.delta", **where, "delta": piece}
    yield {"type": "response.function_call_arguments.done", **where, "arguments": arguments}


def _part(part: dict[str, Any], where: dict[str, Any]) -> Iterator[Event]:
    kind = part["type"]
    field = "refusal" if kind == "refusal" else "text"
    more: dict[str, Any] = {} if kind == "refusal" else {"logprobs": []}
    empty = {**part, field: "", **({"annotations": []} if "annotations" in part else {})}
    yield {"type": "response.content_part.added", **where, "part": empty}
    for piece in pieces(part[field]):
        yield {"type": f"response.{kind}.delta", **where, "delta": piece, **more}
    for number, annotation in enumerate(part.get("annotations", ())):
        yield {
            "type": "response.output_text.annotation.added",
            **where,
            "annotation_index": number,
            "annotation": annotation,
        }
    yield {"type": f"response.{kind}.done", **where, field: part[field], **more}
    yield {"type": "response.content_part.done", **where, "part": part}
