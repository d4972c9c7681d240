"""A response as OpenAI's clients read it: its body in any state, its events, and its input items."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from headrace_schemas import DeadLetter, GenerationJob, JobCancelled, Result
from headrace_workers.features.generation.openai.generation import (
    Spoken,
    accepted_at,
    is_truncated,
    model_of,
    pieces,
    receipt,
    spoken,
    usage_told,
)
from headrace_workers.features.generation.openai.request import WISHES, Body, tier
from headrace_workers.features.generation.openai.tools import annotations, search_call
from headrace_workers.http.openai import End, failure_told, unanswered, wrong

_PREFIX: Final = "resp_"
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}

Event = dict[str, Any]


def response_id(job_id: str) -> str:
    """Return the id of a job's response."""
    return _PREFIX + job_id


def job_id_of(id: str) -> str | None:
    """Return the job of a response, or None for an id that no response has."""
    return id.removeprefix(_PREFIX) if id.startswith(_PREFIX) else None


def response_of_item(id: str) -> str:
    """Return the id of the response whose output would have an item of this id."""
    return _PREFIX + id.split("_")[1] if "_" in id else _PREFIX


def unended_body(
    asked: Body, job: GenerationJob, job_id: str, status: Literal["queued", "in_progress"], created_at: float
) -> dict[str, Any]:
    """Return a response whose job has not ended. `created_at` is in seconds since 1970."""
    return _response(asked, job, job_id, status, created_at)


def ended_body(
    asked: Body, job: GenerationJob, job_id: str, end: End, created_at: float | None = None
) -> dict[str, Any]:
    """Return a response whose job has ended, however it did. Without `created_at` it is when the job was accepted."""
    if isinstance(end, JobCancelled):
        return _response(asked, job, job_id, "cancelled", created_at or 0.0)
    if not isinstance(end, Result):
        if is_truncated(end):
            return {
                **_response(asked, job, job_id, "incomplete", accepted_at(end) if created_at is None else created_at),
                "incomplete_details": {"reason": _INCOMPLETE["length"]},
                "usage": _usage(end),
                WISHES: failure_told(end),
            }
        refused = unanswered(end)
        code = "invalid_prompt" if refused.status == 400 else "server_error"
        error = {"code": code, "message": str(refused)}
        told = {} if end.failure is None else {WISHES: failure_told(end)}
        return {**_response(asked, job, job_id, "failed", created_at or accepted_at(end)), "error": error, **told}
    began = accepted_at(end)
    said = spoken(end)
    reason = _INCOMPLETE.get(said.finish_reason)
    status = "incomplete" if reason else "completed"
    return {
        **_response(asked, job, job_id, status, began if created_at is None else created_at),
        "model": model_of(end, asked),
        "completed_at": None if reason else int(began + end.total_ms / 1000),
        "incomplete_details": {"reason": reason} if reason else None,
        "output": _output(asked, job, end, said, status),
        "usage": _usage(end),
        WISHES: receipt(end),
    }


def _response(asked: Body, job: GenerationJob, job_id: str, status: str, created_at: float) -> dict[str, Any]:
    return {
        "id": response_id(job_id),
        "object": "response",
        "created_at": int(created_at),
        "completed_at": None,
        "status": status,
        "background": asked.get("background", False),
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "metadata": asked.get("metadata", {}),
        "model": job.model or job.application,
        "output": [],
        "parallel_tool_calls": asked.get("parallel_tool_calls", True),
        "previous_response_id": asked.get("previous_response_id"),
        "safety_identifier": asked.get("safety_identifier"),
        "service_tier": tier(asked),
        "store": asked.get("store", True),
        "temperature": job.sampling.temperature,
        "text": {"format": {"type": "text"}, **asked.get("text", {})},
        "tool_choice": asked.get("tool_choice", "auto"),
        "tools": asked.get("tools", []),
        "top_p": job.sampling.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": asked.get("user"),
        WISHES: {"job_id": job_id},
    }


def _output(asked: Body, job: GenerationJob, result: Result, said: Spoken, status: str) -> list[dict[str, Any]]:
    """Return the search, where one was asked for, the message, where there is one, and the calls of functions."""
    searched = [search_call(result, job.question)] if asked.get("tools") and not job.tools else []
    calls = [
        {
            "id": f"fc_{result.job_id}_{index}",
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
            "status": status,
        }
        for index, call in enumerate(said.calls)
    ]
    if said.text is not None:
        content = {"type": "output_text", "text": said.text, "annotations": annotations(result), "logprobs": []}
    elif said.refusal is not None:
        content = {"type": "refusal", "refusal": said.refusal}
    else:
        return [*searched, *calls]
    message = {
        "id": f"msg_{result.job_id}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [content],
    }
    return [*searched, message, *calls]


def _usage(end: Result | DeadLetter) -> dict[str, Any]:
    usage = usage_told([end])
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }


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
    for index, item in enumerate(body["output"]):
        empty: dict[str, Any] = {name: value for name, value in (("content", []), ("arguments", "")) if name in item}
        unwritten = {**item, "status": "in_progress", **empty}
        yield {"type": "response.output_item.added", "output_index": index, "item": unwritten}
        for number, part in enumerate(item.get("content", ())):
            where = {"item_id": item["id"], "output_index": index, "content_index": number}
            yield from _part(part, where)
        if "arguments" in item:
            yield from _arguments(item["arguments"], {"item_id": item["id"], "output_index": index})
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
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


def input_items(asked: Body, job_id: str) -> list[dict[str, Any]]:
    """Return the items of a response's `input`, in order, each with an id of its own.

    `asked` was accepted when it was sent.
    """
    given = asked["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    return [_item(item, f"in_{job_id}_{index}") for index, item in enumerate(items)]


def page(
    items: Sequence[dict[str, Any]], *, after: str | None, limit: int, order: Literal["asc", "desc"]
) -> dict[str, Any]:
    """Return `limit` items after the item `after`. Raise Refused where there is no item of that id."""
    ordered = list(items) if order == "asc" else list(reversed(items))
    if after is not None:
        places = [index for index, entry in enumerate(ordered) if entry["id"] == after]
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
