"""A floor under quality: another try for an answer that a criterion finds too poor. The job's context keeps the best
answer so far.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from headrace_schemas import (
    Answer,
    Category,
    Contains,
    Criterion,
    GenerationJob,
    Grounded,
    HeadraceError,
    JsonSchema,
    JsonValid,
    JudgeVerdict,
    Language,
    Length,
    Message,
    Moderated,
    Pairwise,
    Regex,
    Result,
    Rubric,
    Score,
    Usage,
)
from headrace_schemas.events import Attempt as Call
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.min_quality import Attempt, MinQuality, QualityFloor
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Done, Ended, Held
from headrace_workers.core.pipeline.chain import TRIED, next_in_chain, with_attempt
from headrace_workers.core.pipeline.receipt import receipt, seen_by
from headrace_workers.core.pipeline.task import SCORES, Task
from headrace_workers.core.tables import RELEASED
from headrace_workers.features.generation.attempt import GENERATE, objected, turns_in
from headrace_workers.features.judging.scores import forgotten
from headrace_workers.models.structured.tools import said_in

_MOST_NAMED: Final = 5  # sentences that are not supported


def critique(criterion: Criterion, score: Score, answer: str) -> str:
    """Return the user's turn after an answer that is not good enough."""
    text = f"That answer was scored {score.value or 0.0:.2f} of 1. What counts is this: {asked_for(criterion)}"
    found = [f"What is wrong first: {score.note}"] if score.note and isinstance(criterion, JsonSchema) else []
    for unsupported in (score.unsupported or ())[:_MOST_NAMED]:
        found.append(f"Not supported: {answer[unsupported.start : unsupported.stop]} ({unsupported.reason})")
    ask = "Answer again, better by this. Write the new answer alone, without a word about the old one."
    return "\n".join([text, *found, ask])


def asked_for(criterion: Criterion) -> str:
    """Return the demand of a criterion on an answer, as a sentence."""
    match criterion:
        case Rubric() | Pairwise():
            text = criterion.question if criterion.guidance is None else f"{criterion.question} {criterion.guidance}"
        case Contains():
            text = f"It must contain {json.dumps(criterion.text, ensure_ascii=False)}."
        case Regex():
            text = f"It must match the regular expression {criterion.pattern}"
        case JsonValid():
            text = "It must be one JSON document, with nothing before or after it."
        case JsonSchema():
            schema = json.dumps(criterion.json_schema, ensure_ascii=False)
            text = f"It must be one JSON document, with nothing around it, that keeps to this JSON Schema: {schema}"
        case Language():
            text = f"It must be in the language with the code {criterion.language}."
        case Length(max_words=None):
            text = f"It must have at least {criterion.min_words} words."
        case Length():
            text = f"It must have {criterion.min_words} to {criterion.max_words} words."
        case Grounded():
            text = "Each of its sentences must stand in what you were given."
        case _:
            text = "It must be nearer to what a right answer says."
    return text


_CONTEXT: Final = "floor"
_TRIED: Final = "tried"  # in it: the attempts until now
_BEST: Final = "best"  # the best of them: its number, what moderation said of it, and its scores
_USED: Final = "used"  # tokens read and written by all of them
_STOPPED: Final = "stopped"  # why it is not asked again


def judged(task: Task, job: GenerationJob, event: Moderated, verdict: JudgeVerdict) -> Done | Ended | Held:
    """Return the outcome of a judged answer: the job's end with it, or a better earlier one; or another attempt. A text
    that a person wrote is the job's end.
    """
    floor = job.min_quality
    if floor is None:
        return Ended(ended(task, event, verdict))
    score = _score_by(floor, job, verdict)
    tried = _with(task, event, score, verdict)
    best = Ended(_best(task, floor, tried))
    if event.answer.by_person or floor.then == "accept" or (score.value is not None and score.value >= floor.value):
        return best
    if floor.then == "hold":
        # Of an answer that moderation withheld there is nothing to release.
        is_over = task.woken_by == RELEASED or event.answer.text is None
        return best if is_over else _held(floor, score, verdict)
    if score.value is None:
        return best  # there is nothing to tell the model that would help
    again = (_next if floor.then == "next" else _retry)(job, floor, event, score, tried)
    if again is None:
        return best
    judges = seen_by(task.context, *(item.provider for item in verdict.scores))
    return replace(again, context={**again.context, **judges})


def stopped(task: Task) -> Result | None:
    """Return the end of a job that could not be asked again, with its best answer; None for all others."""
    if not task.context:
        return None
    state = task.context.get(_CONTEXT, {})
    if not isinstance(task.job, GenerationJob) or task.job.min_quality is None or _STOPPED not in state:
        return None
    return _best(task, task.job.min_quality, state)


def turns(context: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the turns after the conversation: the last answer, and its faults."""
    return turns_in(context.get(_CONTEXT, {}))


def without_another(context: Mapping[str, Any], error: HeadraceError) -> Done | None:
    """Return the end, with the answer of before, of a job whose model cannot answer again; None if it has none."""
    state = context.get(_CONTEXT)
    if state is None:
        return None
    why = f"it could not be made again: {reason_of(error)}"[:MAX_SHORT_TEXT]
    return Done(context={_CONTEXT: {**state, _STOPPED: why}})


def ended(task: Task, event: Moderated, verdict: JudgeVerdict, usage: Usage | None = None) -> Result:
    """Return the receipt of an answer. `usage` is that of all attempts, where there were several."""
    answer: Answer = event.answer if usage is None else event.answer.model_copy(update={"usage": usage})
    return receipt(
        task,
        status="blocked" if answer.text is None else "completed",
        answer=answer,
        moderation=event.moderation,
        judge=verdict,
    )


def _score_by(floor: MinQuality, job: GenerationJob, verdict: JudgeVerdict) -> Score:
    place = [criterion.key for criterion in job.criteria].index(floor.criterion)
    return verdict.scores[place]


def _with(task: Task, event: Moderated, score: Score, verdict: JudgeVerdict) -> dict[str, Any]:
    """Return the attempts, with this answer."""
    state = task.context.get(_CONTEXT, {})
    tried = [*state.get(_TRIED, ()), {"value": score.value, "not_judged": score.not_judged}]
    usage, used = event.answer.usage, state.get(_USED, (0, 0))
    best = state.get(_BEST)
    if best is None or event.answer.by_person or _better(score.value, tried[best["number"] - 1]["value"]):
        best = {
            "number": len(tried),
            "event": event.model_copy(update={"stages": ()}).model_dump(mode="json", exclude_none=True),
            "scores": verdict.model_dump(mode="json", exclude_none=True),
        }
    return {
        _TRIED: tried,
        _USED: [used[0] + usage.prompt_tokens, used[1] + usage.completion_tokens],
        _BEST: best,
    }


def _better(value: float | None, than: float | None) -> bool:
    return value is not None and (than is None or value > than)


def _retry(
    job: GenerationJob, floor: MinQuality, event: Moderated, score: Score, tried: Mapping[str, Any]
) -> Done | None:
    """Send the job back to its model with the faults; None where it was asked often enough."""
    if len(tried[_TRIED]) > floor.attempts:
        return None
    criterion = next(item for item in job.criteria if item.key == floor.criterion)
    answer = said_in(event.answer)
    objection = objected(answer, critique(criterion, score, answer))
    return Done(to=GENERATE, model=event.answer.model, context={**forgotten(), _CONTEXT: {**tried, **objection}})


def _next(
    job: GenerationJob, floor: MinQuality, event: Moderated, score: Score, tried: Mapping[str, Any]
) -> Done | None:
    """Send the job to the next model of its chain, as if this one had failed; None after the last."""
    answer = event.answer
    following = next_in_chain(job.chain, answer.model)
    if following is None:
        return None
    ms = next((stage.ran_ms for stage in reversed(event.stages) if stage.stage == GENERATE), 0.0)
    call = answer.attempts[-1] if answer.attempts else Call(model=answer.model, provider=answer.provider, ms=ms)
    poor = f"its score by {floor.criterion} is {score.value:.3g}, below {floor.value:.3g}"
    failed = call.model_copy(update={"category": Category.REROUTABLE, "reason": poor, "usage": answer.usage})
    context: dict[str, Any] = {TRIED: []}
    for attempt in (*answer.attempts[:-1], failed):
        context = with_attempt(context, attempt)
    return Done(to=GENERATE, model=following, context={**forgotten(), **context, _CONTEXT: dict(tried)})


def _held(floor: MinQuality, score: Score, verdict: JudgeVerdict) -> Held:
    scores = [item.model_dump(mode="json", exclude_none=True) for item in verdict.scores]
    return Held(_asks_person(floor, score), known={SCORES: scores})


def _asks_person(floor: MinQuality, score: Score) -> str:
    wants = f"the job wants {floor.value:.3g} or a person's word"
    if score.value is None:
        return f"it could not be judged by {floor.criterion} ({score.not_judged}), and {wants}"
    return f"its score by {floor.criterion} is {score.value:.3g}, and {wants}"


def _best(task: Task, floor: MinQuality, tried: Mapping[str, Any]) -> Result:
    """Return the end of a job with the best of its answers."""
    best = tried[_BEST]
    event = Moderated.model_validate({**best["event"], "stages": task.stages})
    attempts = tuple(Attempt.model_validate(item) for item in tried[_TRIED])
    value = attempts[best["number"] - 1].value
    quality = QualityFloor(
        criterion=floor.criterion,
        floor=floor.value,
        outcome="not_judged" if value is None else "met" if value >= floor.value else "below",
        attempts=attempts,
        chosen=best["number"],
        note=tried.get(_STOPPED),
    )
    verdict = JudgeVerdict.model_validate(best["scores"]).model_copy(update={"floor": quality})
    read, written = tried[_USED]
    return ended(task, event, verdict, Usage(prompt_tokens=read, completion_tokens=written))
