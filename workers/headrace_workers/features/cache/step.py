"""The step before a model is asked: is an answer known already, and on what may a new one rest?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from headrace_schemas import Category, GenerationJob, HeadraceError, Output, Usage
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.reasons import reason_of
from headrace_schemas.recall import CacheMode, CacheTier, Recall
from headrace_workers.core.identity import explored_id
from headrace_workers.core.ledger.outcome import Dead, Done, Held, JobEnd, Outcome, StepWrite, Wait, outcome_of
from headrace_workers.core.pipeline.task import Job, Task
from headrace_workers.core.tables import RELEASED
from headrace_workers.features.cache.auditing import Drawn, compared
from headrace_workers.features.cache.semantic.lookup_types import (
    Awaited,
    Failed,
    Hit,
    LookupRequest,
    LookupResult,
    Miss,
    Unverified,
    VerifierSaid,
)
from headrace_workers.features.cache.store.entries import Disallow, Served, Withdraw
from headrace_workers.features.knowledge import grounding
from headrace_workers.features.knowledge.grounding import (
    SCREENED,
    Retrieves,
    Screener,
    afresh,
    find_screened,
    grounded,
    ungrounded,
)
from headrace_workers.models.structured.tool_calls import fault_of_calls
from headrace_workers.models.structured.validity import failure_of
from headrace_workers.models.verifiers.verify_stage import asking, forgotten, verification

if TYPE_CHECKING:
    from headrace_workers.features.cache.auditing import Auditing
    from headrace_workers.features.cache.semantic.answer_lookup import AnswerLookup

VERIFY_HIT = "verify_hit"  # the stage of the model that verifies
CONTEXT = "recall"  # the name under which what was found goes on with the job
ENTRY = "entry"  # in it, the entry that the job is to fill
GIVEN = "given"  # or the one that it was served
PLACES = "places"  # where the answer belongs if a later model of the chain gives it, by that model
TTL_MS = "ttl_ms"  # and for how long that may be served
_TOLD = ("similarity", "threshold", "refused")  # and of a miss, what its receipt will tell
_ASKED = "asked"  # the entry that the verifier was asked about
_NEARLY = "nearly"  # the answer that it was nearly served, to be compared with its own


_LAG_MS: Final = 5_000  # a worker knows of a change of a document within less
_LOOKS: Final = 5  # at answers in other words, each of which may be too old: as many as are compared


def recall(
    tasks: Sequence[Task],
    *,
    cache: "AnswerLookup",
    retrieval: Retrieves,
    passage_screener: Callable[[], Screener],
    cache_mode: CacheMode,
    cache_ttl: float,
    max_wait: float,
    auditing: "Auditing",
) -> list[Outcome]:
    """Look up all tasks at once; the i-th outcome belongs to the i-th task.

    `cache_mode` is for jobs that name none. The answers may be served for `cache_ttl` seconds. If another job is making
    the answer, a task waits for it, `max_wait` seconds at most. Passages are searched where nobody makes the answer;
    where an answer is known, they tell if documents are newer than it. Passages for a screened prompt are screened,
    too.
    """
    outcomes: list[Outcome] = [
        Dead(Category.PERMANENT, f"recall takes generation jobs, not {type(task.job).__name__}") for task in tasks
    ]
    jobs = {index: task.job for index, task in enumerate(tasks) if isinstance(task.job, GenerationJob)}
    requests = _requests(tasks, jobs, cache_mode, auditing)
    results = dict(zip(requests, cache.look_up(list(requests.values())) if requests else (), strict=True))
    passages = _passages(_resting(jobs, results), tasks, retrieval, passage_screener)
    results.update(_renewed(results, passages, requests, cache))
    freed = _freed(tasks, results, passages)
    results.update(dict.fromkeys(freed, Miss()))
    passages |= _passages(freed, tasks, retrieval, passage_screener)
    ttl_ms = int(cache_ttl * 1000)
    for index, job in jobs.items():
        outcomes[index] = _settled(
            tasks[index], job, results.get(index), passages.get(index), ttl_ms, max_wait, auditing
        )
    return outcomes


def _requests(
    tasks: Sequence[Task], jobs: Mapping[int, GenerationJob], default: CacheMode, auditing: "Auditing"
) -> dict[int, LookupRequest]:
    """Return the requests of the jobs that ask for the cache, by index."""
    return {
        index: LookupRequest(
            tasks[index].job_id,
            job,
            mode,
            waited_for=tasks[index].woken_by if tasks[index].woken_by != RELEASED else None,
            explores=auditing.explores(tasks[index].job_id),
            screened=SCREENED in tasks[index].context,
            said=_said(tasks[index]),
        )
        for index, job in jobs.items()
        if (mode := mode_of(job, default)) is not CacheMode.OFF
    }


def _resting(jobs: Mapping[int, GenerationJob], results: Mapping[int, LookupResult]) -> list[int]:
    """Return the indices of the jobs whose passages are needed now."""
    return [
        index
        for index, job in jobs.items()
        if job.knowledge is not None and not isinstance(results.get(index), Awaited | Failed | Unverified)
    ]


def _freed(
    tasks: Sequence[Task], results: Mapping[int, LookupResult], passages: Mapping[int, grounding.Found | Held]
) -> list[int]:
    """Return the indices of the requests that wait for a job of this group which will make no answer for others. They
    run by themselves at once.
    """
    alone = {
        tasks[index].job_id
        for index, passage in passages.items()
        if isinstance(results.get(index), Miss) and not isinstance(passage, grounding.Grounds)
    }
    return [index for index, result in results.items() if isinstance(result, Awaited) and result.job_id in alone]


def _said(task: Task) -> VerifierSaid | None:
    """Return what the verifier said of the answer that a job came with to it; None before."""
    found, asked = verification(task.context), task.context.get(CONTEXT, {}).get(_ASKED)
    if found is None or asked is None:
        return None
    return VerifierSaid(asked, found.model, found.provider, found.verdicts[0])


def _unfit(job: GenerationJob, result: LookupResult | None) -> Disallow | None:
    """Return the end of a known answer that does not have the format, or the call, which the job asks for; None for any
    other.
    """
    if not isinstance(result, Hit):
        return None
    failure = fault_of_calls(result.answer.tool_calls, job)
    if failure is None and (output := job.format_of(result.answer.tool_calls)) is not None:
        failure = failure_of(output, result.answer.text or "", result.answer.finish_reason)
    return None if failure is None else Disallow(result.entry_id, reason_of(failure))


def mode_of(job: Job, default: CacheMode) -> CacheMode:
    """Return which earlier answers suffice for a job; none for a job with a floor, whose answer may be made again."""
    if not isinstance(job, GenerationJob) or job.min_quality is not None:
        return CacheMode.OFF
    return job.cache or default


def recalled(context: Mapping[str, Any]) -> Recall | None:
    """Return the look-up part of an answer's receipt, from what `recall` carried; None without a look-up."""
    carried = context.get(CONTEXT)
    return None if carried is None else Recall(**{name: carried.get(name) for name in _TOLD})


def answer_fields(context: Mapping[str, Any], _text: str) -> Mapping[str, Recall]:
    """Return the look-up part of an answer's receipt; nothing without a look-up."""
    recall = recalled(context)
    return {} if recall is None else {"recall": recall}


def compared_with(context: Mapping[str, Any], text: str) -> tuple[StepWrite, ...]:
    """Return how the near miss of a job compares with the job's own answer, if it is audited."""
    nearly = context.get(CONTEXT, {}).get(_NEARLY)
    if nearly is None:
        return ()
    audit_id, served = nearly
    return (compared(audit_id, served, text),)


def _passages(
    indices: Sequence[int], tasks: Sequence[Task], retrieval: Retrieves, screener: Callable[[], Screener]
) -> dict[int, grounding.Found | Held]:
    """Return the passages for the tasks at these indices. A job without a base is not among them."""
    passages = find_screened([tasks[index] for index in indices], retrieval, screener) if indices else ()
    return dict(zip(indices, passages, strict=True))


def _settled(
    task: Task,
    job: GenerationJob,
    result: LookupResult | None,
    passages: grounding.Found | Held | None,
    ttl_ms: int,
    max_wait: float,
    auditing: "Auditing",
) -> Outcome:
    """Return the outcome of a task. An answer that does not fit the job ends, and the job's own model is asked. A
    verifier's verdict is not carried on.

    `result` is None for a job that does not ask for the cache, `passages` for one that needs none.
    """
    unfit = _unfit(job, result)
    match result if unfit is None else Miss():
        case Awaited() | Failed() | Unverified() as waiting:
            outcome: Outcome = _without_answer(waiting, max_wait)
        case Hit() as hit:
            outcome = _serve(task, job, hit, None if isinstance(passages, Held) else passages, auditing)
        case missed:
            outcome = _ask_model(task, job, missed, passages, ttl_ms, auditing)
    if not isinstance(outcome, Done):
        return outcome
    rows = outcome.rows if unfit is None else (*outcome.rows, unfit)
    asked = result is not None and _said(task) is not None
    return replace(outcome, rows=rows, context={**forgotten(), **outcome.context} if asked else outcome.context)


def _ask_model(
    task: Task,
    job: GenerationJob,
    missed: Miss | None,
    passages: grounding.Found | Held | None,
    ttl_ms: int,
    auditing: "Auditing",
) -> Outcome:
    """Return the outcome of a task that no known answer suits: the job goes on to its model, with its passages."""
    if isinstance(passages, Held):
        return passages
    if isinstance(passages, HeadraceError):
        return outcome_of(passages)
    context = {} if missed is None else {CONTEXT: {name: getattr(missed, name) for name in _TOLD}}
    if isinstance(passages, grounding.NoGrounds):
        # An answer that rests on no passage is not shared: a document that comes in a moment would make it wrong.
        done = ungrounded(task.job_id, job, passages, recalled(context))
        rows: tuple[StepWrite, ...] = () if missed is None or missed.entry_id is None else (Withdraw(missed.entry_id),)
        return replace(done, context={**context, **done.context}, rows=rows)
    done = Done() if passages is None else grounded(passages)
    if missed is None:
        return done
    context[CONTEXT] |= _filling(missed, ttl_ms)
    rows = ()
    if missed.nearly is not None:
        context[CONTEXT] |= {_NEARLY: [explored_id(task.job_id), missed.nearly.text]}
        rows = (auditing.explore(task.job_id, job, missed.nearly),)
    return replace(done, context={**context, **done.context}, rows=rows)


def _filling(missed: Miss, ttl_ms: int) -> dict[str, Any]:
    """Return what goes on with a job that is to fill an entry; nothing for any other."""
    if missed.entry_id is None:
        return {}
    places = {PLACES: missed.places} if missed.places else {}
    return {ENTRY: missed.entry_id, TTL_MS: ttl_ms, **places}


def _without_answer(result: Awaited | Failed | Unverified, max_wait: float) -> Wait | Dead | Done:
    """Return the outcome of a task that waits, fails with another, or asks the verifier first."""
    if isinstance(result, Unverified):
        return asking([result.pair], VERIFY_HIT, {CONTEXT: {_ASKED: result.entry_id}})
    if isinstance(result, Awaited):
        return Wait(JobEnd(result.job_id), f"job {result.job_id} makes the same answer", at_most=max_wait)
    return Dead(result.category, result.reason[:MAX_SHORT_TEXT])


def _renewed(
    results: Mapping[int, LookupResult],
    passages: Mapping[int, grounding.Found | Held],
    requests: Mapping[int, LookupRequest],
    cache: "AnswerLookup",
) -> dict[int, LookupResult]:
    """Return the answers without the outdated ones.

    An answer is outdated if its question now has passages of a newer document on which the answer does not rest. It is
    never given again.
    """
    now = dict(results)
    for _ in range(_LOOKS):
        newer: dict[int, set[tuple[int, str]]] = {}
        for index, result in now.items():
            rests = passages.get(index)
            if isinstance(result, Hit) and isinstance(rests, grounding.Grounds):
                documents = rests.newer(result.asked_at - _LAG_MS)
                newer |= {result.entry_id: newer.get(result.entry_id, set()) | documents} if documents else {}
        old = cache.outdate(newer) if newer else set()
        again = [index for index, result in now.items() if isinstance(result, Hit) and result.entry_id in old]
        if not again:
            break
        now.update(zip(again, cache.look_up([requests[index] for index in again]), strict=True))
    return now


def _serve(task: Task, job: GenerationJob, hit: Hit, passages: grounding.Found | None, auditing: "Auditing") -> Done:
    usage = hit.answer.usage
    saved_tokens = usage.prompt_tokens + usage.completion_tokens
    receipt = Recall(
        tier=hit.tier,
        similarity=hit.similarity,
        threshold=hit.threshold,
        verified=hit.verified,
        age=hit.age,
        first_job=hit.first_job,
        saved_tokens=saved_tokens,
        saved_ms=hit.saved_ms,
    )
    answer = hit.answer.model_copy(update={"recall": receipt, "usage": Usage(prompt_tokens=0, completion_tokens=0)})
    output = Output(job_id=task.job_id, tenant=job.tenant, answer=answer)
    drawn = Drawn()
    if hit.tier is CacheTier.SEMANTIC:
        drawn = auditing.draw(task.job_id, job.question, hit, output, afresh(job, passages))
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
        stratum=drawn.stratum,
        share=drawn.share,
    )
    return Done(output, context={CONTEXT: {GIVEN: hit.entry_id}}, rows=(served, *drawn.rows))
