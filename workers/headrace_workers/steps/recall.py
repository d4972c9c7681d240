"""The step that looks up whether an answer is known already, before a model is asked."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from headrace_schemas import Category, GenerationJob, Output, Usage
from headrace_schemas.recall import CacheMode, Recall
from headrace_workers.ledger.entries import Served
from headrace_workers.recall.cache import Asked
from headrace_workers.recall.found import Awaited, Found, Hit, Miss
from headrace_workers.steps.outcome import Dead, Done, Outcome, Wait
from headrace_workers.steps.task import Job, Task

CONTEXT = "recall"  # the name under which what was found goes on with the job
ENTRY = "entry"  # in it, the entry that the job is to fill
GIVEN = "given"  # or the one that it was served
TTL_MS = "ttl_ms"  # and for how long that may be served


class LooksUp(Protocol):
    """Finds answers that were given before. Thread-safe."""

    def look_up(self, asked: Sequence[Asked]) -> list[Found]:
        """What each comes to; the i-th item belongs to the i-th request."""


def recall(
    tasks: Sequence[Task], *, cache: LooksUp, cache_mode: CacheMode, cache_ttl: float, max_wait: float
) -> list[Outcome]:
    """Look all up at once; the i-th outcome belongs to the i-th task. `cache_mode` is for jobs that name none.

    What is made of this may be served for `cache_ttl` seconds. Who finds that another job is making the answer waits
    for that, `max_wait` seconds at most.
    """
    outcomes: list[Outcome] = [
        Dead(Category.PERMANENT, f"recall takes generation jobs, not {type(task.job).__name__}") for task in tasks
    ]
    asking = [(place, task, task.job) for place, task in enumerate(tasks) if isinstance(task.job, GenerationJob)]
    asked = [
        Asked(task.job_id, job, mode_of(job, cache_mode), has_waited=task.woken_by is not None)
        for _, task, job in asking
    ]
    for (place, task, job), found in zip(asking, cache.look_up(asked) if asked else (), strict=True):
        outcomes[place] = _outcome(task, job, found, int(cache_ttl * 1000), max_wait)
    return outcomes


def mode_of(job: Job, default: CacheMode) -> CacheMode:
    """Which earlier answers are good enough for a job."""
    return CacheMode.OFF if not isinstance(job, GenerationJob) else job.cache or default


def recalled(context: Mapping[str, Any]) -> Recall | None:
    """What an answer's receipt says of looking it up, from what `recall` handed on; None where it was not asked."""
    found = context.get(CONTEXT)
    return None if found is None else Recall(similarity=found.get("similarity"), refused=found.get("refused"))


def _outcome(task: Task, job: GenerationJob, found: Found, ttl_ms: int, max_wait: float) -> Outcome:
    match found:
        case Awaited(job_id):
            return Wait(job_id, f"job {job_id} makes the same answer", at_most=max_wait)
        case Miss():
            said: dict[str, Any] = {"similarity": found.similarity, "refused": found.refused}
            if found.entry_id is not None:
                said |= {ENTRY: found.entry_id, TTL_MS: ttl_ms}
            return Done(context={CONTEXT: said})
        case Hit():
            return _serve(task, job, found)


def _serve(task: Task, job: GenerationJob, hit: Hit) -> Done:
    usage = hit.answer.usage
    saved_tokens = usage.prompt_tokens + usage.completion_tokens
    told = Recall(
        tier=hit.tier,
        similarity=hit.similarity,
        age=hit.age,
        first_job=hit.first_job,
        saved_tokens=saved_tokens,
        saved_ms=hit.saved_ms,
    )
    answer = hit.answer.model_copy(update={"recall": told, "usage": Usage(prompt_tokens=0, completion_tokens=0)})
    served = Served(
        job_id=task.job_id,
        entry_id=hit.entry_id,
        tenant=job.tenant,
        scope=hit.scope,
        tier=hit.tier.value,
        similarity=hit.similarity,
        first_job=hit.first_job,
        saved_tokens=saved_tokens,
        saved_ms=hit.saved_ms,
    )
    output = Output(job_id=task.job_id, tenant=job.tenant, answer=answer)
    return Done(output, context={CONTEXT: {GIVEN: hit.entry_id}}, rows=(served,))
