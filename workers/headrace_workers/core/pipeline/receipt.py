"""The receipt that a stage ends a job with: the providers that saw its text, and the reason for a review."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Literal

from headrace_schemas import Answer, Decisions, Embedding, GenerationJob, JudgeVerdict, ModerationVerdict, Result, Tuned
from headrace_schemas.event_types import kind_of
from headrace_workers.core.pipeline.chain import OWN, tried_in
from headrace_workers.core.pipeline.task import Task

_SEEN: Final = "seen_by"  # the name in the context of a step


def seen_by(context: Mapping[str, Any], *providers: str | None) -> dict[str, Any]:
    """Return the context that adds these providers; nothing where none of them is new. None and `own` are left out."""
    others = {provider for provider in providers if provider not in (None, OWN)}
    if not others:
        return {}
    before = set(context.get(_SEEN, ()))
    now = before | others
    return {} if now == before else {_SEEN: sorted(now)}


def all_that_saw(
    context: Mapping[str, Any], answer: Answer | Decisions | None, judge: JudgeVerdict | None
) -> tuple[str, ...]:
    """Return every provider that the text was sent to, for the receipt with this answer and this verdict."""
    providers = [attempt.provider for attempt in tried_in(context)]
    if answer is not None:
        providers += [answer.provider, *(attempt.provider for attempt in answer.attempts)]
    if judge is not None:
        providers += [score.provider for score in judge.scores]
    found = {**context, **seen_by(context, *providers)}.get(_SEEN, ())
    return tuple(found)


def receipt(
    task: Task,
    *,
    status: Literal["completed", "blocked"] = "completed",
    answer: Answer | None = None,
    moderation: ModerationVerdict | None = None,
    embedding: Embedding | None = None,
    decisions: Decisions | None = None,
    tuned: Tuned | None = None,
    judge: JudgeVerdict | None = None,
    refusal: Literal["prompt_blocked"] | None = None,
) -> Result:
    """Return the receipt of the task's job, without the parts that the runner adds: the stages on the way, and the
    total time.
    """
    resolution = task.job.resolution if isinstance(task.job, GenerationJob) else None
    return Result(
        job_id=task.job_id,
        tenant=task.job.tenant,
        status=status,
        refusal=refusal,
        kind=kind_of(task.job),
        idempotency_key=task.job.idempotency_key,
        metadata=task.job.metadata,
        application=None if resolution is None else resolution.application,
        answer=answer,
        moderation=moderation,
        embedding=embedding,
        decisions=decisions,
        tuned=tuned,
        judge=judge or JudgeVerdict(),
        seen_by=all_that_saw(task.context, answer or decisions, judge),
        accepted_at=task.accepted_at,
    )


def review_reason(verdict: ModerationVerdict) -> str:
    """Return which findings of a verdict ask for a review, without the text."""
    counter = Counter(finding.category for finding in verdict.findings if finding.action == "review")
    scores = {finding.category: finding.score for finding in sorted(verdict.findings, key=lambda f: f.score)}
    listed = ", ".join(f"{name} ({number} x, {scores[name]:.2f} at most)" for name, number in sorted(counter.items()))
    return f"the moderation policy {verdict.policy} wants a person to review: {listed}"
