"""A batch and a file as OpenAI's clients read them. Pure."""

import json
from typing import Any, Final

from sqlalchemy import Row

from headrace_workers.features.batches.store.batches import CANCELLED, CANCELLING, COMPLETED, EXPIRED, FAILED_WHOLE

NATIVE: Final = "/v1/jobs"  # what a batch of headrace's own jobs says of its endpoint
_ENDED: Final = {COMPLETED: "completed_at", FAILED_WHOLE: "failed_at", EXPIRED: "expired_at", CANCELLED: "cancelled_at"}


def batch_object(batch: Row[Any]) -> dict[str, Any]:
    """A batch, with what headrace counts beside: lines that are `held` now, `cached` answers, and tokens `reserved` and
    `spent` of `max_tokens`.

    Times are seconds since 1970.
    """
    errors = None
    if batch.reason is not None:
        said = {"code": "invalid_input", "message": batch.reason, "param": None, "line": batch.line}
        errors = {"object": "list", "data": [said]}
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint or NATIVE,
        "errors": errors,
        "input_file_id": batch.input_file,
        "completion_window": batch.window,
        "status": batch.state,
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "created_at": _seconds(batch.created_at),
        "in_progress_at": _seconds(batch.began_at),
        "expires_at": _seconds(batch.expires_at),
        "finalizing_at": _seconds(batch.finalizing_at),
        "cancelling_at": _seconds(batch.cancelling_at),
        **dict.fromkeys(_ENDED.values()),
        **({_ENDED[batch.state]: _seconds(batch.ended_at)} if batch.state in _ENDED else {}),
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": {
            "input_tokens": batch.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": batch.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": batch.prompt_tokens + batch.completion_tokens,
        },
        "metadata": json.loads(batch.metadata),
        "headrace": {
            "tenant": batch.tenant,
            "held": batch.held,
            "cached": batch.cached,
            "max_tokens": batch.max_tokens,
            "reserved": batch.reserved,
            "spent": batch.spent,
        },
    }


def file_object(file: Row[Any]) -> dict[str, Any]:
    """A file. Times are seconds since 1970."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": _seconds(file.created_at),
        "expires_at": _seconds(file.expires_at),
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def is_over(batch: Row[Any]) -> bool:
    """Whether nothing more will come of it."""
    return batch.ended_at is not None


def progress_words(batch: Row[Any]) -> str:
    """How a batch stands, in words."""
    done = batch.completed + batch.failed
    words = f"{batch.state}: {done:,} of {batch.total:,}"
    if batch.failed:
        words += f", {batch.failed:,} failed"
    if batch.held:
        words += f", {batch.held:,} held (`headrace moderation held list` says why)"
    if batch.cached:
        words += f", {batch.cached:,} from the cache"
    if batch.state == CANCELLING:
        words += "; what runs is let go of"
    return words


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else ms // 1000
