"""Answers that do not have the format that their job asks for: which model tries again, what it is told, with how much
room, and how the job ends. Pure.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from headrace_schemas import GenerationJob, HeadraceError, Message, Sampling, Usage
from headrace_schemas.errors import PromptTooLong, Unparsable
from headrace_schemas.limits import MAX_COMPLETION_TOKENS, MAX_TEXT
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Dead, Done, Outcome, Retry
from headrace_workers.core.pipeline.answer_additions import answering
from headrace_workers.core.pipeline.chain import tried_in
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import Completion, Generator
from headrace_workers.features.generation.another_try import objected, turns_in
from headrace_workers.features.generation.attempt import decision_on, failed_attempt, with_failure

ROOM: Final = "room"  # in the context of a step: the longest answer of its next attempt, in tokens
REPAIR: Final = "repair"  # and what it is told: the answer before, and what is wrong with it
_MORE: Final = 2  # times the room of an answer that was cut off
_LONGEST: Final = 4_000  # characters of an answer that a model is shown to repair it
_AROUND: Final = 256  # tokens of the words about it, at most
_REASON: Final = 300  # characters


def with_room(sampling: Sampling, context: Mapping[str, Any]) -> Sampling:
    """Return how an attempt samples: with more room where the attempt before it was cut off."""
    room = context.get(ROOM)
    return sampling if room is None else sampling.model_copy(update={"max_tokens": room})


def repairing(context: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the turns that tell a model what the answer before was, and what is wrong with it; none elsewhere."""
    return turns_in(context.get(REPAIR) or {})


def forgotten(context: Mapping[str, Any]) -> dict[str, None]:
    """Return the context by which the next answer is asked for as the first was."""
    return {name: None for name in (ROOM, REPAIR) if context.get(name) is not None} if context else {}


def without_repair(task: Task, error: HeadraceError) -> Retry | None:
    """Return the next attempt of a model whose context does not hold the answer to be repaired; None elsewhere."""
    if not isinstance(error, PromptTooLong) or task.context.get(REPAIR) is None:
        return None
    return Retry(reason_of(error), context={REPAIR: None})


def unparsable(
    task: Task, error: Unparsable, generator: Generator, ms: float, completion: Completion | None, usage: Usage | None
) -> Outcome:
    """Return the outcome of an attempt whose answer does not have its format.

    Another attempt is made where it may help. Without one, the job goes on with an earlier answer if a feature asked
    for this one, and else ends in this failure. `completion` is absent where the engine gave up by itself.
    """
    another = _another(task, error, generator, ms, completion)
    earlier = _earlier(task, error)
    if another is None and earlier is not None:
        return replace(earlier, usage=usage)
    attempt = failed_attempt(generator, error.category, error, ms, usage)
    if another is None:
        dead = Dead(error.category, reason_of(error), usage=usage, failure=error.failure, place=error.place)
        return with_failure(dead, task, attempt)
    retry = replace(another, otherwise=earlier, usage=usage, failure=error.failure, place=error.place)
    return with_failure(retry, task, attempt)


def shortened(
    task: Task, answered: Done, generator: Generator, ms: float, completion: Completion, usage: Usage
) -> Outcome:
    """Return the outcome of an answer that was closed since its tokens ran out: one more attempt if it may have more
    room. Without one, the job goes on with the answer.
    """
    job = task.job
    room = _more_room(task, job, completion, generator, ms) if isinstance(job, GenerationJob) else None
    if room is None or not isinstance(job, GenerationJob):
        return answered
    error = Unparsable("the answer's tokens ended before it did, and it was closed", "truncated")
    retry = Retry(
        reason_of(error),
        context={ROOM: room},
        more_tokens=room - job.sampling.max_tokens,
        otherwise=replace(answered, context={**answered.context, ROOM: None}),
        usage=usage,
        failure=error.failure,
    )
    return with_failure(retry, task, failed_attempt(generator, error.category, error, ms, usage))


def _earlier(task: Task, error: Unparsable) -> Done | None:
    """Return how the job goes on with the answer that it had before it was sent back to its model; None without one."""
    ends = (each.without_another(task.context, error) for each in reversed(answering()))
    end = next((each for each in ends if each is not None), None)
    found = end.otherwise if isinstance(end, Retry) else end
    return replace(found, context={**found.context, **forgotten(task.context)}) if isinstance(found, Done) else None


def _another(
    task: Task, error: Unparsable, generator: Generator, ms: float, completion: Completion | None
) -> Retry | None:
    """Return the next attempt: with more room, by the next model, or by the same model if that may answer otherwise."""
    job, reason = task.job, reason_of(error)
    if not isinstance(job, GenerationJob) or error.failure == "unsatisfiable":
        return None
    if error.failure == "truncated" and completion is not None:
        room = _more_room(task, job, completion, generator, ms)
        if room is not None:
            return Retry(reason, context={ROOM: room}, more_tokens=room - job.sampling.max_tokens)
    told = None if completion is None else _told(error, completion)
    context = {**forgotten(task.context), **({} if told is None else {REPAIR: told})}
    decision = decision_on(task, error, generator.alias)
    if decision.action == "next":
        return Retry(reason, category=decision.category, context=context)
    if error.failure != "unparsable" or _failed_before(task, generator.alias):
        return None
    if told is not None and completion is not None:
        needed = completion.prompt_tokens + completion.completion_tokens + _AROUND + job.sampling.max_tokens
        if needed <= generator.context_length:
            return Retry(reason, context=context, more_tokens=completion.completion_tokens + _AROUND)
    draws = job.sampling.temperature > 0 and job.sampling.seed is None
    return Retry(reason, context=forgotten(task.context)) if draws else None


def _failed_before(task: Task, model: str) -> bool:
    return any(each.model == model and each.failure is not None for each in tried_in(task.context))


def _told(error: Unparsable, completion: Completion) -> dict[str, Any] | None:
    """Return what a model is told about an answer that it is to repair; None about one that is too long or empty."""
    if error.failure != "unparsable" or not 0 < len(completion.text) <= _LONGEST:
        return None
    place = f" (at {error.place})" if error.place else ""
    return objected(
        completion.text,
        f"That answer does not have the format: {reason_of(error)[:_REASON]}{place}. Write the whole answer again, in "
        "the format. Write nothing before or after it.",
    )


def _more_room(task: Task, job: GenerationJob, completion: Completion, generator: Generator, ms: float) -> int | None:
    """Return the room for one more attempt, in tokens; None where it cannot have more, or there is no time for it."""
    usual = job.sampling.max_tokens
    room = min(_MORE * usual, MAX_COMPLETION_TOKENS, generator.context_length - completion.prompt_tokens)
    if task.context.get(ROOM) is not None or room <= usual or len(completion.text) >= MAX_TEXT:
        return None
    needed = (1 + _MORE) * ms / 1000  # this attempt, and the longer one
    return None if task.seconds_left is not None and task.seconds_left < needed else room
