"""The step that judges an answer and writes the receipt."""

from collections.abc import Sequence
from typing import Final

from headrace_schemas import Answer, Category, EvaluationJob, GenerationJob, JudgeVerdict, Moderated
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Dead, Done, Ended, Held, Outcome, Retry, Wait
from headrace_workers.core.pipeline.receipt import receipt, seen_by
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import Generator, ProviderBusy, Unseen, provider_of
from headrace_workers.features.generation.structured.tools import said_in
from headrace_workers.features.judging.carried_scores import EMBEDDED, JUDGED, from_context, to_context
from headrace_workers.features.judging.quality_retry import judged, stopped
from headrace_workers.features.judging.score import Scored, next_judge, score_all
from headrace_workers.features.judging.subject import Subject

_LONGEST_WAIT: Final = 60.0  # seconds until a model that judges is asked again
_RUBRIC: Final = "rubric"  # the stage of models that judge


def judge(tasks: Sequence[Task], *, generator: Generator | None = None) -> list[Outcome]:
    """Judge each task's answer by its job's criteria; the i-th outcome belongs to the i-th task.

    `generator` answers the rubrics; without one they get a reason instead of a value. Those that name another model go
    on to that, with the scores that there are. Of a generation the judge sees what moderation let through, never more.
    """
    subjects = {
        place: subject for place, task in enumerate(tasks) if (subject := _subject(task, generator)) is not None
    }
    found = score_all(list(subjects.values()), generator)
    provider = None if generator is None else provider_of(generator)
    outcomes = {
        place: _outcome(tasks[place], subject, scored, provider)
        for (place, subject), scored in zip(subjects.items(), found, strict=True)
    }
    return [outcomes.get(place) or _unjudged(task) for place, task in enumerate(tasks)]


def _subject(task: Task, generator: Generator | None) -> Subject | None:
    context = None
    match task.job, task.event:
        case GenerationJob(), Moderated() if stopped(task) is not None:
            return None
        case GenerationJob() as job, Moderated() as event:
            output, question = _said(event.answer), job.question
        case EvaluationJob() as job, EvaluationJob():
            output, question, context = job.output, job.input, job.context
        case _:
            return None
    others = frozenset[str]() if generator is None else frozenset(job.judge_models) - {generator.alias}
    return Subject(
        output,
        job.criteria,
        question=question,
        context=context,
        reference=job.reference,
        other=job.other,
        embedded=from_context(EMBEDDED, task.context),
        before=from_context(JUDGED, task.context),
        elsewhere=others,
        job_id=task.job_id,
        tenant=task.job.tenant,
    )


def _outcome(task: Task, subject: Subject, scored: Scored, provider: str | None) -> Outcome:
    outcome: Ended | Done | Held
    if scored.pending:
        model = next_judge(subject, scored.pending)
        outcome = Done(to=_RUBRIC, model=model, context=to_context(JUDGED, scored.found))
    elif isinstance(task.job, GenerationJob) and isinstance(task.event, Moderated):
        outcome = judged(task, task.job, task.event, JudgeVerdict(scores=scored.scores))
    else:
        outcome = Ended(receipt(task, judge=JudgeVerdict(scores=scored.scores)))
    if scored.trouble is None:
        return outcome
    busy = scored.trouble if isinstance(scored.trouble, ProviderBusy) else None
    if busy is not None and (task.seconds_left is None or (busy.after or 0) < task.seconds_left):
        return Wait(None, reason_of(busy), at_most=min(busy.after or _LONGEST_WAIT, _LONGEST_WAIT))
    # The answer is there: in the end its receipt says what could not be judged, rather than that the job died.
    return Retry(
        reason_of(scored.trouble),
        after=(busy and busy.after) or 0.0,
        category=scored.trouble.category,
        otherwise=outcome,
        context=seen_by(task.context, None if isinstance(scored.trouble, Unseen) else provider),
    )


def _unjudged(task: Task) -> Outcome:
    """Return the outcome of a task that is not judged.

    Either it was judged before and could not be answered again, or it cannot be judged.
    """
    if (result := stopped(task)) is not None:
        return Ended(result)
    found = f"{type(task.event).__name__} of a {type(task.job).__name__}"
    return Dead(Category.PERMANENT, f"judging takes moderated outputs and evaluation jobs, not {found}")


def _said(answer: Answer) -> str | None:
    """Return what is judged: the text, with calls of tools as JSON; None where moderation withheld it."""
    return answer.text if answer.text is None or not answer.tool_calls else said_in(answer)
