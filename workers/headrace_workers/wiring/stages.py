"""The pipeline: the stages that a job passes, in their order. All else is derived from this list: queues, roles,
routing, what a worker builds.

To add a stage: write its step in `steps/`, and add its value here.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from headrace_schemas import (
    Cosine,
    Criterion,
    EmbeddingJob,
    EvaluationJob,
    GenerationJob,
    Grounded,
    Moderated,
    ModerationJob,
    Output,
    Pairwise,
    Rubric,
)
from headrace_schemas.job import JudgedJob
from headrace_schemas.recall import CacheMode
from headrace_workers.core.pipeline.grouping import sampling_group, shared_prefix
from headrace_workers.core.pipeline.retry import RetrySchedule
from headrace_workers.core.pipeline.stage import Stage, Weight
from headrace_workers.core.pipeline.task import Job, StepEvent
from headrace_workers.features.cache.audit_step import audit
from headrace_workers.features.cache.step import mode_of, recall
from headrace_workers.features.generation.step import generate
from headrace_workers.features.judging.criterion_sampling import may_be_judged
from headrace_workers.features.judging.ground_step import ground_answers
from headrace_workers.features.judging.step import judge
from headrace_workers.features.knowledge.embed_step import embed
from headrace_workers.features.moderation.screen_step import screen as screen_prompts
from headrace_workers.features.moderation.step import moderate
from headrace_workers.features.webhooks.step import deliver
from headrace_workers.features.webhooks.store.deliveries import STAGE as DELIVER

AUDIT: Final = "audit"
RECALL: Final = "recall"

# Of a webhook: seconds from each attempt to the next, 75 hours and a half in all, so that a receiver that is away for a
# long weekend misses nothing.
DELAYS: Final = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)


def _own_model(_job_id: str, job: Job, _judge: str | None) -> str | None:
    return job.model if isinstance(job, GenerationJob) else None


def _sampling(job: Job, job_id: str) -> str:
    assert isinstance(job, GenerationJob)  # noqa: S101 - no other asks for a model of its own
    return sampling_group(job, job_id)


def judge_model(job_id: str, job: Job, judge: str | None) -> str | None:
    """Who answers this job's rubrics first; what others are to answer goes on to them from there.

    Rubrics that name no model are answered by the one that others name first, else by the deployment's judge, else by
    the job's own model, whatever is drawn: that one comes first where it has something to answer. Else it is the first
    that a rubric names which is judged, or may be. None when no model is asked for, or none is known.
    """
    if not isinstance(job, JudgedJob) or not job.asks_judge:
        return None
    usual = next(iter(job.judge_models), None) or judge or _own_model(job_id, job, judge)
    asked = [
        each.model or usual
        for each in job.criteria
        if isinstance(each, Rubric | Pairwise) and may_be_judged(job_id, each)
    ]
    return usual if usual in asked else next(iter(asked), usual)


def _one_is_judged(kinds: tuple[type[Criterion], ...], job_id: str, job: Job) -> bool:
    """Whether one of a job's criteria of these kinds is judged, or may be. A job that no share has drawn does not wait
    for whoever would have answered: its score says that it was not, wherever it is written.
    """
    criteria = job.criteria if isinstance(job, JudgedJob) else ()
    return any(isinstance(each, kinds) and may_be_judged(job_id, each) for each in criteria)


def _asks_recall(default: CacheMode, job: Job, _event: StepEvent) -> bool:
    return mode_of(job, default) is not CacheMode.OFF or not _can_do_without(job)


def _can_do_without(job: Job) -> bool:
    """Whether a job may go on to its model without having been looked up: it asks for no passages."""
    return not isinstance(job, GenerationJob) or job.knowledge is None


def _always(_job: Job) -> bool:
    return True


def no_tenant(_tenant: str) -> bool:
    """For none."""
    return False


def _asks_screening(default: bool, must: Callable[[str], bool], job: Job, _event: StepEvent) -> bool:
    assert isinstance(job, GenerationJob)  # noqa: S101 - the stage takes no other
    return must(job.tenant) or (default if job.screen is None else job.screen)


def stages_of(
    cache: CacheMode = CacheMode.OFF, *, screen: bool = False, must_screen: Callable[[str], bool] = no_tenant
) -> tuple[Stage, ...]:
    """The stages of a deployment. `cache` is for jobs that do not say which earlier answers are good enough, `screen`
    for those that do not say whether their prompts are moderated; those of tenants that `must_screen` names are.
    """
    return (
        # By workers that hold an embedder already. Looking up is quick and comes first, so that groups are short: who
        # looks up, or moderates in the same process, waits for one.
        Stage(
            name="embed",
            takes=(EmbeddingJob,),
            step=embed,
            weight=Weight.ENCODER,
            done_by=RECALL,
            needs=("embedder", "embedder_alias"),
            quantum=0.5,
        ),
        # By workers that moderate, before anything is looked up for a prompt that the policy blocks.
        Stage(
            name="screen",
            takes=(GenerationJob,),
            step=screen_prompts,
            when=partial(_asks_screening, screen, must_screen),
            done_by="moderate",
            needs=("screener", "seen_prompts", "trusts_system"),
        ),
        # Looking up reads the ledger, and embeds: neither belongs into another stage's transaction.
        Stage(
            name=RECALL,
            takes=(GenerationJob,),
            step=recall,
            weight=Weight.IO,
            when=partial(_asks_recall, cache),
            needs=("cache", "retrieval", "passage_screener", "cache_mode", "cache_ttl", "max_wait", "auditing"),
            optional=_can_do_without,
        ),
        Stage(
            name="generate",
            takes=(GenerationJob,),
            step=generate,
            weight=Weight.MODEL,
            needs=("canaries", "let_go"),
            model=_own_model,
            group=_sampling,
            prefix=shared_prefix,
        ),
        Stage(name="moderate", takes=(Output, ModerationJob), step=moderate, needs=("moderator", "canaries")),
        # A recall worker has the embedder. Judging, which comes behind it, is handed what was found.
        Stage(
            name="ground",
            takes=(Moderated, EvaluationJob),
            step=ground_answers,
            weight=Weight.ENCODER,
            drawn=partial(_one_is_judged, (Grounded, Cosine)),
            done_by=RECALL,
            needs=("embedder",),
            quantum=0.5,
            optional=_always,
        ),
        Stage(
            name="rubric",
            takes=(Moderated, EvaluationJob),
            step=judge,
            weight=Weight.MODEL,
            model=judge_model,
            drawn=partial(_one_is_judged, (Rubric, Pairwise)),
        ),
        Stage(name="judge", takes=(Moderated, EvaluationJob), step=judge),
        # Beside the way of jobs: its units are written with what was served. See features/cache/auditing.py.
        Stage(
            name=AUDIT,
            step=audit,
            weight=Weight.MODEL,
            group=_sampling,
            prefix=shared_prefix,
            retry=RetrySchedule(attempts=3),
        ),
        # So is this: its units are written when an end is published. See features/webhooks/telling.py.
        Stage(
            name=DELIVER,
            step=deliver,
            weight=Weight.IO,
            needs=("webhooks", "courier", "sealer"),
            retry=RetrySchedule(delays=DELAYS),
            abreast=64,
        ),
    )


STAGES: Final = stages_of()
