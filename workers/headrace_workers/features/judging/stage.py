"""The stages that judge answers: by an embedder, by a model, and by all else; and the step that writes the receipt."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from headrace_schemas import (
    Answer,
    Category,
    Cosine,
    Criterion,
    EvaluationJob,
    GenerationJob,
    Grounded,
    JudgeVerdict,
    Moderated,
    Pairwise,
    Rubric,
)
from headrace_schemas.job import JudgedJob
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Dead, Done, Ended, Held, Outcome, ProviderBusy, Retry, Wait
from headrace_workers.core.pipeline.receipt import receipt, seen_by
from headrace_workers.core.pipeline.stage import EMBEDDER_ROLE, FurtherAnswers, ReadBytes, Stage, Weight
from headrace_workers.core.pipeline.task import Job, Task, pieces
from headrace_workers.features.generation.stage import own_model
from headrace_workers.features.judging.ground_step import MOST_CLAIMS, VERIFY_CLAIMS, ground_answers
from headrace_workers.features.judging.quality_retry import asked_for, judged, stopped
from headrace_workers.features.judging.scores import EMBEDDED, JUDGED, Subject, from_context, may_be_judged, to_context
from headrace_workers.features.judging.scoring import Scored, next_judge, score_all
from headrace_workers.features.moderation.corrected import MODERATE, by_person
from headrace_workers.models.generator import Generator, Unseen, provider_of
from headrace_workers.models.structured.tools import said_in
from headrace_workers.models.verifiers.measured import no_fault
from headrace_workers.models.verifiers.verify_stage import verify_stage

_LONGEST_WAIT: Final = 60.0  # seconds until a model that judges is asked again
_RUBRIC: Final = "rubric"  # the stage of models that judge


def judge(
    tasks: Sequence[Task],
    *,
    generator: Generator | None = None,
    judge_fault: Callable[[str], str | None] = no_fault,
) -> list[Outcome]:
    """Judge each task's answer by its job's criteria; the i-th outcome belongs to the i-th task. The judge sees only
    the text that moderation let through. A text that a person wrote goes back to moderation.
    """
    corrected = {place: Done(output, to=MODERATE) for place, task in enumerate(tasks) if (output := by_person(task))}
    subjects = {
        place: subject
        for place, task in enumerate(tasks)
        if place not in corrected and (subject := _subject(task, generator)) is not None
    }
    fault = None if generator is None else judge_fault(generator.alias)
    found = score_all(list(subjects.values()), generator, fault)
    provider = None if generator is None else provider_of(generator)
    outcomes = {
        place: _outcome(tasks[place], subject, scored, provider)
        for (place, subject), scored in zip(subjects.items(), found, strict=True)
    }
    return [corrected.get(place) or outcomes.get(place) or _unjudged(task) for place, task in enumerate(tasks)]


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
    """Return the outcome of a task that cannot be judged, or cannot be answered again."""
    if (result := stopped(task)) is not None:
        return Ended(result)
    text = f"{type(task.event).__name__} of a {type(task.job).__name__}"
    return Dead(Category.PERMANENT, f"judging takes moderated outputs and evaluation jobs, not {text}")


def _said(answer: Answer) -> str | None:
    """Return what is judged: the text, with calls of tools as JSON; None where moderation withheld it."""
    return answer.text if answer.text is None or not answer.tool_calls else said_in(answer)


_JUDGE_TOKENS: Final = 2_000  # of a judge's instructions


def judge_model(job_id: str, job: Job, judge: str | None) -> str | None:
    """Return the model that answers this job's rubrics first: the one that they name first, else the deployment's
    judge, else the job's own. None when no model is asked for, or none is known.
    """
    if not isinstance(job, JudgedJob) or not job.asks_judge:
        return None
    usual = next(iter(job.judge_models), None) or judge or own_model(job_id, job, judge)
    models = [
        criterion.model or usual
        for criterion in job.criteria
        if isinstance(criterion, Rubric | Pairwise) and may_be_judged(job_id, criterion)
    ]
    return usual if usual in models else next(iter(models), usual)


def _one_is_judged(kinds: tuple[type[Criterion], ...], job_id: str, job: Job) -> bool:
    """Return whether any criterion of these kinds is judged, or may be. A job that no share has drawn does not wait for
    its judge: its score says that it was not drawn, wherever it is written.
    """
    criteria = job.criteria if isinstance(job, JudgedJob) else ()
    return bool(criteria) and any(
        isinstance(criterion, kinds) and may_be_judged(job_id, criterion) for criterion in criteria
    )


def _always(_job: Job) -> bool:
    return True


def _further_answers(job: Job) -> FurtherAnswers:
    """Return what a job's floor may ask for: an objection repeats the criterion, and sentences without support."""
    if not isinstance(job, GenerationJob) or job.min_quality is None:
        return FurtherAnswers()
    floor = job.min_quality
    wanted = next(criterion for criterion in job.criteria if criterion.key == floor.criterion)
    repeated = job.sampling.max_tokens if wanted.criterion == "grounded" else 0
    if floor.then == "next":
        return FurtherAnswers(len(job.chain) - 1)
    return FurtherAnswers(floor.attempts if floor.then == "regenerate" else 0, pieces(asked_for(wanted)) + repeated)


def _most_tokens(job: Job, read: ReadBytes) -> int:
    """Return the most tokens of one run of a model that judges: each question repeats the answer, and has one word for
    its own; a comparison is asked in both orders.
    """
    criteria = (
        [criterion for criterion in job.criteria if isinstance(criterion, Rubric | Pairwise)]
        if isinstance(job, JudgedJob)
        else []
    )
    return sum(2 if isinstance(criterion, Pairwise) else 1 for criterion in criteria) * (read.total + _JUDGE_TOKENS)


def _asks_verifier(verifier: str, _job_id: str, job: Job, _judge: str | None) -> str | None:
    """Return the verifier for jobs whose answers are looked up."""
    criteria = job.criteria if isinstance(job, JudgedJob) else ()
    return verifier if any(isinstance(criterion, Grounded) for criterion in criteria) else None


def stages(verifier: str | None = None, verifier_seconds: float = 60.0) -> tuple[Stage, ...]:
    """Return the stages of a deployment. `verifier` is the model that verifies, for so many seconds, what `grounded`
    looks up.
    """
    if verifier is None:
        return STAGES
    verifies = verify_stage(
        VERIFY_CLAIMS, 65, "ground", model=partial(_asks_verifier, verifier), most_pairs=MOST_CLAIMS,
        most_seconds=verifier_seconds,
    )  # fmt: skip
    return (*STAGES, verifies)


STAGES: Final = (
    # A worker with this role has the embedder. Judging, which comes after it, is handed what was found.
    Stage(
        name="ground",
        order=60,
        takes=(Moderated, EvaluationJob),
        step=ground_answers,
        weight=Weight.ENCODER,
        drawn=partial(_one_is_judged, (Grounded, Cosine)),
        done_by=EMBEDDER_ROLE,
        needs=("embedder", "claim_verifier"),
        quantum=0.5,
        optional=_always,
    ),
    Stage(
        name="rubric",
        order=70,
        takes=(Moderated, EvaluationJob),
        step=judge,
        weight=Weight.MODEL,
        model=judge_model,
        most_tokens=_most_tokens,
        drawn=partial(_one_is_judged, (Rubric, Pairwise)),
        needs=("judge_fault",),
    ),
    # A job has one floor, whichever of these two stages judges last: this sets it for both.
    Stage(name="judge", order=80, takes=(Moderated, EvaluationJob), step=judge, further_answers=_further_answers),
)
