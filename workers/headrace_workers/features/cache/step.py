"""The step before a model is asked: is an answer known already, and on what may a new one rest?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from headrace_schemas import Category, GenerationJob, HeadraceError, Output, Usage
from headrace_schemas.reasons import reason_of
from headrace_schemas.recall import CacheMode, CacheTier, Recall
from headrace_workers.core.fields import copied
from headrace_workers.core.ledger.outcome import Dead, Done, Held, JobEnd, Outcome, StepWrite, Wait, outcome_of
from headrace_workers.core.pipeline.task import Job, Task
from headrace_workers.core.tables import RELEASED
from headrace_workers.features.cache.auditing import compared
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
    from headrace_workers.features.cache.semantic.lookup import AnswerLookup, Lookup, VerifierSaid

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
    from headrace_workers.features.cache.semantic.lookup import missed  # only workers that recall load it

    outcomes: list[Outcome] = [
        Dead(Category.PERMANENT, f"recall takes generation jobs, not {type(task.job).__name__}") for task in tasks
    ]
    jobs = {index: task.job for index, task in enumerate(tasks) if isinstance(task.job, GenerationJob)}
    lookups = _lookups(tasks, jobs, cache_mode, auditing)
    if lookups:
        cache.look_up(list(lookups.values()))
    resting = [
        index for index, job in jobs.items() if job.knowledge is not None and not _is_put_off(lookups.get(index))
    ]
    passages = _passages(resting, tasks, retrieval, passage_screener)
    _renew(lookups, passages, cache)
    freed = _freed(lookups, passages)
    lookups |= {index: missed(lookups[index]) for index in freed}
    passages |= _passages(freed, tasks, retrieval, passage_screener)
    for index, job in jobs.items():
        task, lookup, found = tasks[index], lookups.get(index), passages.get(index)
        unfit = None if lookup is None or lookup.decision != "hit" else _unfit(job, lookup)
        if lookup is not None and unfit is not None:
            lookup = missed(lookup)
        if lookup is not None and lookup.decision == "hit":
            outcome: Outcome = _serve(task, job, lookup, None if isinstance(found, Held) else found, auditing)
        elif lookup is not None and lookup.decision != "miss":
            outcome = _put_off(lookup, max_wait)
        else:
            outcome = _ask_model(task, job, lookup, found, int(cache_ttl * 1000), auditing)
        if isinstance(outcome, Done):
            rows = outcome.rows if unfit is None else (*outcome.rows, unfit)
            heard = lookup is not None and lookup.said is not None  # a verifier's verdict is not carried on
            context = {**forgotten(), **outcome.context} if heard else outcome.context
            outcome = replace(outcome, rows=rows, context=context)
        outcomes[index] = outcome
    return outcomes


def _lookups(
    tasks: Sequence[Task], jobs: Mapping[int, GenerationJob], default: CacheMode, auditing: "Auditing"
) -> dict[int, "Lookup"]:
    """Return the look-ups of the jobs that ask for the cache, by index."""
    from headrace_workers.features.cache.semantic.lookup import Lookup

    return {
        index: Lookup(
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


def _said(task: Task) -> "VerifierSaid | None":
    """Return what the verifier said of the answer that a job came with to it; None before."""
    from headrace_workers.features.cache.semantic.lookup import VerifierSaid

    found, asked = verification(task.context), task.context.get(CONTEXT, {}).get(_ASKED)
    if found is None or asked is None:
        return None
    return VerifierSaid(asked, found.model, found.provider, found.verdicts[0])


def _is_put_off(lookup: "Lookup | None") -> bool:
    return lookup is not None and lookup.decision in ("verify", "waits", "ends")


def _freed(lookups: Mapping[int, "Lookup"], passages: Mapping[int, grounding.Found | Held]) -> list[int]:
    """Return the indices of the requests that wait for a job of this group which will make no answer for others. They
    run by themselves at once.
    """
    alone = {
        lookups[index].job_id
        for index, passage in passages.items()
        if index in lookups and lookups[index].decision == "miss" and not isinstance(passage, grounding.Grounds)
    }
    return [index for index, lookup in lookups.items() if lookup.decision == "waits" and lookup.waits_for in alone]


def _unfit(job: GenerationJob, lookup: "Lookup") -> Disallow | None:
    """Return the end of a known answer that does not have the format, or the call, which the job asks for."""
    answer = lookup.answer
    failure = fault_of_calls(answer.tool_calls, job)
    if failure is None and (output := job.format_of(answer.tool_calls)) is not None:
        failure = failure_of(output, answer.text or "", answer.finish_reason)
    return None if failure is None else Disallow(lookup.hit.id, reason_of(failure))


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


def _ask_model(
    task: Task,
    job: GenerationJob,
    missed: "Lookup | None",
    passages: grounding.Found | Held | None,
    ttl_ms: int,
    auditing: "Auditing",
) -> Outcome:
    """Return the outcome of a task that no known answer suits: the job goes on to its model, with its passages.

    `missed` is None for a job that does not ask for the cache, `passages` for one that needs none.
    """
    if isinstance(passages, Held):
        return passages
    if isinstance(passages, HeadraceError):
        return outcome_of(passages)
    context = {} if missed is None else {CONTEXT: {name: getattr(missed, name) for name in _TOLD}}
    if isinstance(passages, grounding.NoGrounds):
        # An answer that rests on no passage is not shared: a document that comes in a moment would make it wrong.
        done = ungrounded(task.job_id, job, passages, recalled(context))
        rows: tuple[StepWrite, ...] = () if missed is None or missed.leads is None else (Withdraw(missed.leads),)
        return replace(done, context={**context, **done.context}, rows=rows)
    done = Done() if passages is None else grounded(passages)
    if missed is None:
        return done
    if missed.leads is not None:
        places = {PLACES: missed.places} if missed.places else {}
        context[CONTEXT] |= {ENTRY: missed.leads, TTL_MS: ttl_ms, **places}
    rows = ()
    if missed.nearly is not None:
        audit = auditing.explore(missed)
        context[CONTEXT] |= {_NEARLY: [audit.id, audit.served]}
        rows = (audit,)
    return replace(done, context={**context, **done.context}, rows=rows)


def _put_off(lookup: "Lookup", max_wait: float) -> Wait | Dead | Done:
    """Return the outcome of a task that waits for another, ends as another did, or asks the verifier first."""
    if lookup.end is not None:
        return lookup.end
    if lookup.pair is not None:
        return asking([lookup.pair], VERIFY_HIT, {CONTEXT: {_ASKED: lookup.hit.id}})
    job_id = lookup.waits_for or ""
    return Wait(JobEnd(job_id), f"job {job_id} makes the same answer", at_most=max_wait)


def _renew(lookups: dict[int, "Lookup"], passages: Mapping[int, grounding.Found | Held], cache: "AnswerLookup") -> None:
    """Look those up again whose answer is outdated: its question now has passages of a newer document on which the
    answer does not rest. It is never given again.
    """
    for _ in range(_LOOKS):
        newer: dict[int, set[tuple[int, str]]] = {}
        hits = {index: lookup.hit for index, lookup in lookups.items() if lookup.decision == "hit"}
        for index, entry in hits.items():
            rests = passages.get(index)
            if isinstance(rests, grounding.Grounds) and (documents := rests.newer(entry.asked_at - _LAG_MS)):
                newer[entry.id] = newer.get(entry.id, set()) | documents
        old = cache.outdate(newer) if newer else set()
        again = {index: replace(lookups[index]) for index, entry in hits.items() if entry.id in old}
        if not again:
            return
        cache.look_up(list(again.values()))
        lookups |= again


def _serve(
    task: Task, job: GenerationJob, lookup: "Lookup", passages: grounding.Found | None, auditing: "Auditing"
) -> Done:
    entry, usage = lookup.hit, lookup.answer.usage
    served = Served(
        job_id=task.job_id,
        entry_id=entry.id,
        tenant=job.tenant,
        scope=lookup.scope,
        tier=lookup.tier.value,
        similarity=lookup.similarity,
        first_job=entry.job_id,
        saved_tokens=usage.prompt_tokens + usage.completion_tokens,
        saved_ms=entry.saved_ms,
    )
    age = max(0, entry.age_ms) / 1000
    receipt = copied(Recall, served, threshold=lookup.threshold, verified=lookup.verified, age=age)
    answer = lookup.answer.model_copy(update={"recall": receipt, "usage": Usage(prompt_tokens=0, completion_tokens=0)})
    output = Output(job_id=task.job_id, tenant=job.tenant, answer=answer)
    rows: tuple[StepWrite, ...] = (served,)
    if lookup.tier is CacheTier.SEMANTIC:
        rows = auditing.draw(served, job.question, output, afresh(job, passages))
    return Done(output, context={CONTEXT: {GIVEN: entry.id}}, rows=rows)
