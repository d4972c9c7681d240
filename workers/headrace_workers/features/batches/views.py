"""Batches as everybody sees them: over HTTP (OpenAI's objects), by `--json` and in tables. Pure.

Times are seconds since 1970.
"""

import json
from typing import Any, Final, Literal, Self

from pydantic import BaseModel
from sqlalchemy import Row

from headrace_workers.core.fields import copied
from headrace_workers.features.batches.store.batches import CANCELLED, CANCELLING, COMPLETED, EXPIRED, FAILED_WHOLE

NATIVE: Final = "/v1/jobs"  # what a batch of headrace's own jobs says of its endpoint


class RequestCounts(BaseModel):
    """The numbers of lines: in all, answered, and failed."""

    total: int
    completed: int
    failed: int


class BatchError(BaseModel):
    """The reason why a whole batch failed; it names the line, if one is to blame."""

    code: Literal["invalid_input"] = "invalid_input"
    message: str
    param: None = None
    line: None = None


class BatchErrors(BaseModel):
    """OpenAI's list of a batch's errors; headrace names one."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class BatchUsage(BaseModel):
    """The tokens of a batch."""

    input_tokens: int
    input_tokens_details: dict[str, int] = {"cached_tokens": 0}
    output_tokens: int
    output_tokens_details: dict[str, int] = {"reasoning_tokens": 0}
    total_tokens: int


class BatchCounts(BaseModel):
    """headrace's own counts: lines that are `held` now, `cached` answers, and tokens `reserved` and `spent` of
    `max_tokens`.
    """

    tenant: str
    held: int
    cached: int
    max_tokens: int | None
    reserved: int
    spent: int


class Batch(BaseModel):
    """A batch. `headrace` has its cost, and the number of answers from the cache."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int | None
    finalizing_at: int | None
    cancelling_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str]
    headrace: BatchCounts

    @classmethod
    def of(cls, batch: Row[Any]) -> Self:
        """Return the view of a batch."""
        ended = _seconds(batch.ended_at)
        wrong = None if batch.reason is None else BatchErrors(data=[BatchError(message=batch.reason)])
        return cls(
            id=batch.id,
            endpoint=batch.endpoint or NATIVE,
            errors=wrong,
            input_file_id=batch.input_file,
            completion_window=batch.window,
            status=batch.state,
            output_file_id=batch.output_file,
            error_file_id=batch.error_file,
            created_at=batch.created_at // 1000,
            in_progress_at=_seconds(batch.began_at),
            expires_at=_seconds(batch.expires_at),
            finalizing_at=_seconds(batch.finalizing_at),
            cancelling_at=_seconds(batch.cancelling_at),
            completed_at=ended if batch.state == COMPLETED else None,
            failed_at=ended if batch.state == FAILED_WHOLE else None,
            expired_at=ended if batch.state == EXPIRED else None,
            cancelled_at=ended if batch.state == CANCELLED else None,
            request_counts=RequestCounts(total=batch.total, completed=batch.completed, failed=batch.failed),
            usage=BatchUsage(
                input_tokens=batch.prompt_tokens,
                output_tokens=batch.completion_tokens,
                total_tokens=batch.prompt_tokens + batch.completion_tokens,
            ),
            metadata=json.loads(batch.metadata),
            headrace=copied(BatchCounts, batch),
        )


def is_over(batch: Row[Any]) -> bool:
    """Return True if the batch has ended."""
    return batch.ended_at is not None


def progress_words(batch: Row[Any]) -> str:
    """Return the batch's progress in words."""
    done = batch.completed + batch.failed
    words = f"{batch.state}: {done:,} of {batch.total:,}"
    if batch.failed:
        words += f", {batch.failed:,} failed"
    if batch.held:
        words += f", {batch.held:,} held (`headrace review held` says why)"
    if batch.cached:
        words += f", {batch.cached:,} from the cache"
    if batch.state == CANCELLING:
        words += "; what runs is let go of"
    return words


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else ms // 1000
