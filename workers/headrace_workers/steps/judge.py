"""The step that judges an answer and writes the receipt."""

from collections.abc import Sequence

from headrace_schemas import Category, EvaluationJob, GenerationJob, JudgeVerdict, Moderated
from headrace_schemas.reasons import reason_of
from headrace_workers.judging.score import Scored, score_all
from headrace_workers.judging.subject import Subject
from headrace_workers.ports import Generator
from headrace_workers.steps.floor import judged, stopped
from headrace_workers.steps.ground import embedded_scores
from headrace_workers.steps.outcome import Dead, Done, Ended, Held, Outcome, Retry
from headrace_workers.steps.receipt import receipt
from headrace_workers.steps.task import Task


def judge(tasks: Sequence[Task], *, generator: Generator | None = None) -> list[Outcome]:
    """Judge each task's answer by its job's criteria; the i-th outcome belongs to the i-th task.

    `generator` answers the rubrics; without one they get a reason instead of a value. Of a generation the judge sees
    what moderation let through, never more.
    """
    subjects = {place: subject for place, task in enumerate(tasks) if (subject := _subject(task)) is not None}
    found = score_all(list(subjects.values()), generator)
    outcomes: list[Outcome] = [_unjudged(task) for task in tasks]
    for place, scored in zip(subjects, found, strict=True):
        outcomes[place] = _outcome(tasks[place], scored)
    return outcomes


def _subject(task: Task) -> Subject | None:
    match task.job, task.event:
        case GenerationJob(), Moderated() if stopped(task) is not None:
            return None
        case GenerationJob() as job, Moderated() as event:
            return Subject(
                event.answer.text,
                job.criteria,
                question=job.question,
                reference=job.reference,
                embedded=embedded_scores(task.context),
                other=job.other,
                job_id=task.job_id,
            )
        case EvaluationJob() as job, EvaluationJob():
            return Subject(
                job.output,
                job.criteria,
                question=job.input,
                reference=job.reference,
                context=job.context,
                embedded=embedded_scores(task.context),
                other=job.other,
                job_id=task.job_id,
            )
        case _:
            return None


def _outcome(task: Task, scored: Scored) -> Outcome:
    verdict = JudgeVerdict(scores=scored.scores)
    outcome: Ended | Done | Held
    if isinstance(task.job, GenerationJob) and isinstance(task.event, Moderated):
        outcome = judged(task, task.job, task.event, verdict)
    else:
        outcome = Ended(receipt(task, judge=verdict))
    if scored.trouble is None:
        return outcome
    # The answer is there: in the end its receipt says what could not be judged, rather than that the job died.
    return Retry(reason_of(scored.trouble), category=scored.trouble.category, otherwise=outcome)


def _unjudged(task: Task) -> Outcome:
    """Of a task that is not judged: it was before, and could not be answered again; or it cannot be."""
    if (result := stopped(task)) is not None:
        return Ended(result)
    found = f"{type(task.event).__name__} of a {type(task.job).__name__}"
    return Dead(Category.PERMANENT, f"judging takes moderated outputs and evaluation jobs, not {found}")
