"""The receipt that a stage ends a job with."""

from typing import Literal

from headrace_schemas import Answer, Embedding, JudgeVerdict, ModerationVerdict, Result
from headrace_schemas.event_types import kind_of
from headrace_workers.core.pipeline.seen_by import all_that_saw
from headrace_workers.core.pipeline.task import Task


def receipt(
    task: Task,
    *,
    status: Literal["completed", "blocked"] = "completed",
    answer: Answer | None = None,
    moderation: ModerationVerdict | None = None,
    embedding: Embedding | None = None,
    judge: JudgeVerdict | None = None,
    refusal: Literal["prompt_blocked"] | None = None,
) -> Result:
    """Return the receipt of the task's job, without the parts that the runner adds: the stages on the way, and the
    total time.
    """
    return Result(
        job_id=task.job_id,
        tenant=task.job.tenant,
        status=status,
        refusal=refusal,
        kind=kind_of(task.job),
        idempotency_key=task.job.idempotency_key,
        metadata=task.job.metadata,
        answer=answer,
        moderation=moderation,
        embedding=embedding,
        judge=judge or JudgeVerdict(),
        seen_by=all_that_saw(task.context, answer, judge),
        accepted_at=task.accepted_at,
    )
