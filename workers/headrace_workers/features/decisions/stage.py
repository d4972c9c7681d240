"""The stage in which a model decides the questions of jobs."""

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from headrace_schemas import Category, DecisionJob, Decisions, HeadraceError, Usage
from headrace_schemas.decision import (
    Calibration as FittedCalibration,
)
from headrace_schemas.decision import (
    Choice,
    ChoiceAnswer,
    ChoiceProbability,
    DecisionAnswer,
    LevelProbability,
    Predicate,
    PredicateAnswer,
    RefusedAnswer,
    ScaleQuestion,
    ScoreAnswer,
)
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.reasons import reason_of
from headrace_schemas.recall import Recall
from headrace_workers.core.ledger.outcome import Dead, Ended, Outcome, StepWrite
from headrace_workers.core.pipeline.chain import is_patient, next_in_chain, own_chain
from headrace_workers.core.pipeline.receipt import receipt
from headrace_workers.core.pipeline.stage import ReadBytes, Stage, Weight, unexpected
from headrace_workers.core.pipeline.task import Job, Task
from headrace_workers.features.decisions import deciding
from headrace_workers.features.decisions.deciding import (
    Decided,
    DecisionRequest,
    QuestionScores,
    decide_all,
    uncalibrated,
)
from headrace_workers.features.decisions.earlier import EarlierDecisions, Lookup
from headrace_workers.features.decisions.temperatures import Calibration, Temperatures
from headrace_workers.features.generation.attempt import (
    failed,
    fields_of,
    in_time,
    lets_go,
    no_job,
    passed_on,
    share_left,
    source_fields,
)
from headrace_workers.features.generation.stage import own_model
from headrace_workers.features.generation.store.model_generations import ReturnedModel
from headrace_workers.models.generator import Abstained, Generator


def decide(
    tasks: Sequence[Task],
    *,
    generator: Generator,
    cancelled: Callable[[str], bool] = no_job,
    temperatures: Temperatures = uncalibrated,
    earlier: EarlierDecisions | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> list[Outcome]:
    """Decide the questions of all tasks in one call of the model; the i-th outcome belongs to the i-th task. It
    computes no `cancelled` jobs, and none whose `earlier` decisions the cache has.
    """
    temperatures = cache(temperatures)  # keys and answers of a group have the same
    lookups = {} if earlier is None else earlier.look_up(dict(enumerate(tasks)), generator, temperatures)
    outcomes: dict[int, Outcome] = {
        index: _given(tasks[index], found.decisions, (found.served,))
        for index, found in lookups.items()
        if found.decisions is not None and found.served is not None
    }
    jobs = [
        (index, task.job)
        for index, task in enumerate(tasks)
        if isinstance(task.job, DecisionJob) and index not in outcomes
    ]
    begun, model = monotonic(), generator.alias
    requests = [
        DecisionRequest(
            job.conversation,
            job.questions,
            tenant=job.tenant,
            given_up=lets_go(
                tasks[index], model, (share := share_left(tasks[index], model)), cancelled, begun, monotonic
            ),
            at_most=share,
            patient=is_patient(job.chain, model, job.lane, tasks[index].seconds_left),
        )
        for index, job in jobs
    ]
    all_decided = decide_all(generator, requests, temperatures) if requests else []
    ms = (monotonic() - begun) * 1000
    for (index, job), request, decided in zip(jobs, requests, all_decided, strict=True):
        found = in_time(decided, request.at_most, ms)
        try:
            outcomes[index] = _outcome(tasks[index], job, found, generator, ms, lookups.get(index))
        except Exception as error:  # else the whole group would be asked again, and paid for again
            outcomes[index] = unexpected(error)
    return [outcomes.get(index) or _no_decision(task) for index, task in enumerate(tasks)]


def _given(task: Task, decisions: Decisions, rows: tuple[StepWrite, ...]) -> Ended:
    """Return the end of a job that is given earlier decisions."""
    decisions = decisions.model_copy(update=fields_of(task, decisions, 0))
    return Ended(receipt(task, decisions=decisions), rows=rows, asked=False)


def _outcome(
    task: Task, job: DecisionJob, found: Decided | HeadraceError, generator: Generator, ms: float, lookup: Lookup | None
) -> Outcome:
    if isinstance(found, Abstained):  # after the last model nobody is left to answer
        refusals = Decided((None,) * len(job.questions), found.prompt_tokens, 0)
        on = passed_on(task, found, generator.alias, DECIDE.name)
        return on or _answered(task, job, refusals, generator, ms, lookup)
    if isinstance(found, HeadraceError):
        return failed(task, found, generator, ms)
    unasked = next((answer for answer in found.answers if isinstance(answer, HeadraceError)), None)
    if unasked is not None and next_in_chain(job.chain, generator.alias) is not None:
        return failed(task, unasked, generator, ms)  # the next model may be asked all of them
    return _answered(task, job, found, generator, ms, lookup)


def _answered(
    task: Task, job: DecisionJob, decided: Decided, generator: Generator, ms: float, lookup: Lookup | None
) -> Ended:
    """Return the end of a job whose questions were answered."""
    remote = decided.remote
    usage = Usage(
        prompt_tokens=decided.prompt_tokens,
        completion_tokens=decided.completion_tokens,
        cached_tokens=remote.cached_tokens if remote else None,
        reasoning_tokens=remote.reasoning_tokens if remote else None,
    )
    decisions = Decisions(
        model=generator.alias,
        quantization=generator.quantization,
        usage=usage,
        **source_fields(remote),
        recall=None if lookup is None else Recall(),
        answers=tuple(
            answer_of(question, scores) for question, scores in zip(job.questions, decided.answers, strict=True)
        ),
    )
    if attempted := fields_of(task, decisions, ms):
        decisions = decisions.model_copy(update=attempted)
    rows: tuple[StepWrite, ...] = () if remote is None else (ReturnedModel(generator.alias, remote.model),)
    if lookup is not None:
        rows += lookup.kept(decisions, ms)
    return Ended(receipt(task, decisions=decisions), rows=rows, usage=usage)


def _no_decision(task: Task) -> Outcome:
    return Dead(Category.PERMANENT, f"deciding takes decision jobs, not {type(task.job).__name__}")


def most_tokens(job: Job, read: ReadBytes) -> int:
    """Return the most tokens that one run may read and write, whatever tokenizer counts them."""
    assert isinstance(job, DecisionJob)  # noqa: S101 - the stage takes no other
    return deciding.most_tokens(job.conversation, job.questions, read.carried)


DECIDE: Final = Stage(
    name="decide",
    order=38,
    takes=(DecisionJob,),
    step=decide,
    weight=Weight.MODEL,
    needs=("cancelled", "temperatures", "earlier"),
    model=own_model,
    chain=own_chain,
    most_tokens=most_tokens,
)


def answer_of(
    question: Predicate | Choice | ScaleQuestion, scores: QuestionScores | HeadraceError | None
) -> DecisionAnswer:
    """Return the answer to a question. Without scores it is a refusal, with the reason where it could not be asked."""
    if scores is None or isinstance(scores, HeadraceError):
        reason = None if scores is None else reason_of(scores)[:MAX_SHORT_TEXT]
        return RefusedAnswer(type="refusal", name=question.name, reason=reason)
    shares = [_rounded(probability) for probability in scores.probabilities]
    of_all: dict[str, Any] = {
        "name": question.name,
        "mass": None if scores.mass is None else _rounded(scores.mass),
        "calibrated": scores.calibrated,
        "calibration": None if scores.calibration is None else _calibration(scores.calibration, scores.raw),
        "stated": scores.stated,
    }
    match question:
        case Predicate():
            return PredicateAnswer(type="predicate", probability=shares[0], **of_all)
        case Choice():
            best = _likeliest(shares)
            return ChoiceAnswer(
                type="choice",
                choice=question.choices[best].value,
                confidence=shares[best],
                probabilities=tuple(
                    ChoiceProbability(value=choice.value, probability=share)
                    for choice, share in zip(question.choices, shares, strict=True)
                ),
                **of_all,
            )
        case ScaleQuestion():
            values = question.values
            return ScoreAnswer(
                type="score",
                score=float(f"{sum(v * p for v, p in zip(values, scores.probabilities, strict=True)):.6g}"),
                confidence=max(shares),
                probabilities=tuple(
                    LevelProbability(label=level.label, probability=share, value=value)
                    for level, share, value in zip(question.levels, shares, values, strict=True)
                ),
                **of_all,
            )


def _likeliest(shares: Sequence[float]) -> int:
    """Return the place of the largest share; of equal ones the first."""
    return max(range(len(shares)), key=lambda place: (shares[place], -place))


def _calibration(fitted: Calibration, raw: Sequence[float]) -> FittedCalibration:
    return FittedCalibration(
        temperature=float(f"{fitted.temperature:.6g}"),
        bias=tuple(float(f"{value:.6g}") for value in fitted.bias),
        raw=tuple(map(_rounded, raw)),
    )


def _rounded(share: float) -> float:
    """Return a probability with six digits: what an event of many answers has room for, and more than a model knows."""
    return min(1.0, max(0.0, float(f"{share:.6g}")))
