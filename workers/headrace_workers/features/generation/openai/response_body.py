"""The body of a response in any state: queued, in progress, or ended."""

from typing import Any, Final, Literal

from headrace_schemas import DeadLetter, GenerationJob, JobCancelled, Result
from headrace_workers.features.generation.openai.common_fields import WISHES, tier
from headrace_workers.features.generation.openai.file_search import annotations, search_call
from headrace_workers.features.generation.openai.generation import (
    Spoken,
    accepted_at,
    is_truncated,
    model_of,
    spoken,
    usage_told,
)
from headrace_workers.features.generation.openai.job_receipt import receipt
from headrace_workers.features.generation.openai.request import Body
from headrace_workers.http.openai_errors import End, failure_told, unanswered

_PREFIX: Final = "resp_"
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response_id(job_id: str) -> str:
    """Return the id of a job's response."""
    return _PREFIX + job_id


def job_id_of(id: str) -> str | None:
    """Return the job of a response, or None for an id that no response has."""
    return id.removeprefix(_PREFIX) if id.startswith(_PREFIX) else None


def response_of_item(id: str) -> str:
    """Return the id of the response whose output would have an item of this id."""
    return _PREFIX + id.split("_")[1] if "_" in id else _PREFIX


def unended(
    asked: Body, job: GenerationJob, job_id: str, status: Literal["queued", "in_progress"], created_at: float
) -> dict[str, Any]:
    """Return a response whose job has not ended. `created_at` is in seconds since 1970."""
    return _response(asked, job, job_id, status, created_at)


def ended(asked: Body, job: GenerationJob, job_id: str, end: End, created_at: float | None = None) -> dict[str, Any]:
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
        "completed_at": None if reason else began + end.total_ms / 1000,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": _output(asked, job, end, said, status),
        "usage": _usage(end),
        WISHES: receipt(end),
    }


def _response(asked: Body, job: GenerationJob, job_id: str, status: str, created_at: float) -> dict[str, Any]:
    return {
        "id": response_id(job_id),
        "object": "response",
        "created_at": created_at,
        "completed_at": None,
        "status": status,
        "background": asked.get("background", False),
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "metadata": asked.get("metadata", {}),
        "model": job.model,
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
            "id": f"fc_{result.job_id}_{place}",
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
            "status": status,
        }
        for place, call in enumerate(said.calls)
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
