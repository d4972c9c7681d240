"""Answers that do not have the format that their job asks for: which model tries again, with how much room, and how the
job ends. Pure.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from headrace_schemas import Category, GenerationJob, Sampling, Usage
from headrace_schemas.errors import Unparsable
from headrace_schemas.limits import MAX_COMPLETION_TOKENS, MAX_TEXT
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Dead, Done, Outcome, Retry
from headrace_workers.core.pipeline.answer_additions import answering
from headrace_workers.core.pipeline.chain import next_in_chain, tried_in
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import Completion, Generator
from headrace_workers.features.generation.attempt import failed_attempt, with_failure

ROOM: Final = "room"  # in the context of a step: the longest answer of its next attempt, in tokens
_MORE: Final = 2  # times the room of an answer that was cut off


def with_room(sampling: Sampling, context: Mapping[str, Any]) -> Sampling:
    """Return how an attempt samples: with more room where the attempt before it was cut off."""
    room = context.get(ROOM)
    return sampling if room is None else sampling.model_copy(update={"max_tokens": room})


def without_room(context: Mapping[str, Any]) -> dict[str, None]:
    """Return the context by which the next answer has the usual room again."""
    return {ROOM: None} if context.get(ROOM) is not None else {}


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


def _earlier(task: Task, error: Unparsable) -> Done | None:
    """Return how the job goes on with the answer that it had before it was sent back to its model; None without one."""
    ends = (each.without_another(task.context, error) for each in reversed(answering()))
    end = next((each for each in ends if each is not None), None)
    found = end.otherwise if isinstance(end, Retry) else end
    return found if isinstance(found, Done) else None


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
    if next_in_chain(job, generator.alias) is not None:
        return Retry(reason, category=Category.REROUTABLE, context=without_room(task.context))
    draws = job.sampling.temperature > 0 and job.sampling.seed is None
    before = [each for each in tried_in(task.context) if each.model == generator.alias and each.failure is not None]
    return Retry(reason) if draws and error.failure == "unparsable" and not before else None


def _more_room(task: Task, job: GenerationJob, completion: Completion, generator: Generator, ms: float) -> int | None:
    """Return the room for one more attempt, in tokens; None where it cannot have more, or there is no time for it."""
    usual = job.sampling.max_tokens
    room = min(_MORE * usual, MAX_COMPLETION_TOKENS, generator.context_length - completion.prompt_tokens)
    if task.context.get(ROOM) is not None or room <= usual or len(completion.text) >= MAX_TEXT:
        return None
    needed = (1 + _MORE) * ms / 1000  # this attempt, and the longer one
    return None if task.seconds_left is not None and task.seconds_left < needed else room
