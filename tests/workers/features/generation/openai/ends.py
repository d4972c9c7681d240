"""Ends of jobs as headrace tells them, and who asks."""

from datetime import UTC, datetime
from typing import Any

from headrace_schemas import Answer, Category, DeadLetter, JobCancelled, ModerationVerdict, Result, Usage
from headrace_schemas.job import Lane
from headrace_workers.features.generation.openai.request import RequestContext

JOB_ID = "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"
ACCEPTED = datetime(2026, 1, 31, 12, tzinfo=UTC)
ASKER = RequestContext("shop", None, Lane.INTERACTIVE)


def answered(text: str | None = "Hello there.", finish_reason: Any = "stop", **more: Any) -> Result:
    """The receipt of a generation job; without a text one that was blocked. `more` is of its answer."""
    return Result(
        job_id=JOB_ID,
        tenant="shop",
        status="completed" if text is not None else "blocked",
        kind="generation",
        metadata={"order": "17"},
        answer=Answer(
            text=text,
            finish_reason=finish_reason,
            model="mill",
            quantization="int8",
            usage=Usage(prompt_tokens=7, completion_tokens=3),
            **more,
        ),
        moderation=ModerationVerdict(action="allow" if text is not None else "block"),
        accepted_at=ACCEPTED,
        total_ms=1500.0,
    )


def died(category: Category = Category.PERMANENT, reason: str = "it cannot be done", **more: Any) -> DeadLetter:
    """The end of a job that was not answered. `more` is of its dead letter."""
    return DeadLetter(
        job_id=JOB_ID,
        tenant="shop",
        category=category,
        reason=reason,
        stage="generate",
        topic="jobs.generation",
        size=2,
        original="{}",
        encoding="utf-8",
        **more,
    )


def cancelled(reason: str = "") -> JobCancelled:
    return JobCancelled(job_id=JOB_ID, tenant="shop", reason=reason)
