"""The stage that looks for answers and passages before a model is asked, and the one that audits what it served."""

from functools import partial

from headrace_schemas import GenerationJob
from headrace_schemas.recall import CacheMode
from headrace_workers.core.pipeline.stage import RetrySchedule, Stage, Weight
from headrace_workers.core.pipeline.task import Job, StepEvent
from headrace_workers.features.cache.auditing import AUDIT, LABEL, audit, label_audits, label_tokens
from headrace_workers.features.cache.step import VERIFY_HIT, mode_of, recall
from headrace_workers.features.generation.stage import most_tokens, sampling_group, shared_prefix
from headrace_workers.models.verifiers.verify_stage import verify_stage


def stages(
    cache: CacheMode = CacheMode.OFF, verifier: str | None = None, verifier_seconds: float = 5.0
) -> tuple[Stage, ...]:
    """Return the stages of a deployment. `cache` is for jobs that do not say which earlier answers are good enough.
    `verifier` is the model that verifies, for so many seconds, what likeness finds.
    """
    return (*_stages(cache), *(() if verifier is None else _verifying(cache, verifier, verifier_seconds)))


def _verifying(cache: CacheMode, verifier: str, seconds: float) -> tuple[Stage, ...]:
    def asks(_job_id: str, job: Job, _judge: str | None) -> str | None:
        return verifier if mode_of(job, cache) is CacheMode.SEMANTIC else None

    return (
        verify_stage(VERIFY_HIT, 35, "recall", model=asks, most_pairs=1, most_seconds=seconds),
        Stage(
            name=LABEL,
            order=95,
            step=label_audits,
            weight=Weight.MODEL,
            needs=("audit_texts",),
            most_tokens=label_tokens,
            retry=RetrySchedule(attempts=5),
        ),
    )


def _stages(cache: CacheMode) -> tuple[Stage, ...]:
    return (
        # Looking up reads the ledger, and embeds: neither belongs into another stage's transaction.
        Stage(
            name="recall",
            order=30,
            takes=(GenerationJob,),
            step=recall,
            weight=Weight.IO,
            when=partial(_asks_recall, cache),
            needs=("cache", "retrieval", "passage_screener", "cache_mode", "cache_ttl", "max_wait", "auditing"),
            optional=_can_do_without,
        ),
        # Beside the way of jobs: its units are written with what was served. See auditing.py.
        Stage(
            name=AUDIT,
            order=90,
            step=audit,
            weight=Weight.MODEL,
            group=sampling_group,
            prefix=shared_prefix,
            most_tokens=most_tokens,
            retry=RetrySchedule(attempts=3),
        ),
    )


def _asks_recall(default: CacheMode, job: Job, _event: StepEvent) -> bool:
    return mode_of(job, default) is not CacheMode.OFF or not _can_do_without(job)


def _can_do_without(job: Job) -> bool:
    """Return whether a job may go on to its model without having been looked up: it asks for no passages."""
    return not isinstance(job, GenerationJob) or job.knowledge is None
