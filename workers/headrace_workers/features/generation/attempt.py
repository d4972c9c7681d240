"""One attempt of a model at a job: its record in the receipt, and how a model is asked for another answer."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, Final, TypeVar

from headrace_schemas import Answer, Category, Decisions, GenerationJob, HeadraceError, Message, Sampling, Usage
from headrace_schemas.errors import PromptTooLong, ProviderNotAllowed, Unparsable
from headrace_schemas.events import Attempt
from headrace_schemas.job import ModelJob
from headrace_schemas.limits import MAX_COMPLETION_TOKENS, MAX_SHORT_TEXT, MAX_TEXT
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Dead, Done, Outcome, Retry, Signal, Unanswered
from headrace_workers.core.pipeline.chain import (
    in_words,
    links_in,
    next_in_chain,
    own_chain,
    share_of,
    tried_in,
    with_attempt,
)
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.generation.answer_additions import answering
from headrace_workers.features.generation.model_health import BreakerIsOpen
from headrace_workers.features.generation.store.breakers import signal_of
from headrace_workers.models.engines.remote.failures import ServerFailed
from headrace_workers.models.generator import (
    Abstained,
    Completion,
    Generator,
    GivenUp,
    HasProvider,
    RemoteSource,
    Unseen,
)

A = TypeVar("A")

GENERATE: Final = "generate"  # the stage that the job goes back to
TURNS: Final = "turns"  # in the context of who has it asked: what it is told after the conversation

ABSTAINED: Final = "abstained"  # in the context of a step: the models that left its answer to others, and why

ROOM: Final = "room"  # in the context of a step: the longest answer of its next attempt, in tokens
REPAIR: Final = "repair"  # and what it is told: the answer before, and what is wrong with it
_MORE: Final = 2  # times the room of an answer that was cut off
_LONGEST: Final = 4_000  # characters of an answer that a model is shown to repair it
_AROUND: Final = 256  # tokens of the words about it, at most
_REASON: Final = 300  # characters


def objected(answer: str, objection: str) -> dict[str, Any]:
    """Return the context for another try: the answer, and its fault."""
    return {TURNS: [{"role": "assistant", "content": answer}, {"role": "user", "content": objection}]}


def turns_in(context: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the turns in that context; none where the model is not asked again."""
    return tuple(Message.model_validate(item) for item in context.get(TURNS, ()))


class AttemptTooLong(HeadraceError):
    """An attempt that used up its share of the job's deadline: the next model is to have the rest."""

    category = Category.REROUTABLE
    billed = True


def failed_attempt(generator: Generator, error: HeadraceError, ms: float, usage: Usage | None = None) -> Attempt:
    """Return the record of an attempt that failed. It names a provider only if that may have seen the text. `usage` is
    of an answer that is of no use.
    """
    return Attempt(
        model=generator.alias,
        provider=None if isinstance(error, ProviderNotAllowed | Unseen) else _provider(generator),
        category=error.category,
        reason=reason_of(error),
        failure=error.failure if isinstance(error, Unparsable) else None,
        ms=round(max(0, ms), 1),
        usage=usage,
    )


def no_job(_job_id: str) -> bool:
    """Name no job."""
    return False


def share_left(task: Task, model: str) -> float | None:
    """Return the seconds that this attempt may take: its share of the time before the deadline; None without one."""
    if task.seconds_left is None or not isinstance(task.job, ModelJob):
        return None
    return share_of(task.job.chain, model, task.seconds_left)


def lets_go(
    task: Task,
    model: str,
    share: float | None,
    cancelled: Callable[[str], bool],
    begun: float,
    monotonic: Callable[[], float],
) -> Callable[[], bool]:
    """Return what says that an attempt is to end: its job is cancelled, or another model is to have the time left."""
    if share is None or next_in_chain(own_chain(task.job), model) is None:
        return partial(cancelled, task.job_id)
    return lambda: monotonic() - begun > share or cancelled(task.job_id)


def in_time(answer: A | HeadraceError, at_most: float | None, ms: float) -> A | HeadraceError:
    """Return an answer, or in place of an attempt that used up its share of the deadline the error that says so."""
    if isinstance(answer, GivenUp) and at_most is not None and ms > at_most * 1000:
        return AttemptTooLong(f"it took longer than {at_most:.3g} s, its share of the deadline")
    return answer


def failed(task: Task, error: HeadraceError, generator: Generator, ms: float) -> Unanswered:
    """Return the outcome of an attempt that failed with this error."""
    model = generator.alias
    if isinstance(error, BreakerIsOpen):
        shut = failed_attempt(generator, error, 0)
        return Unanswered(error, shut, opens_in=error.after or inf, until=Signal(signal_of(model)))
    is_first = all(attempt.model != model for attempt in tried_in(task.context))
    return Unanswered(
        error,
        None if isinstance(error, GivenUp) else failed_attempt(generator, error, ms),
        again=isinstance(error, ServerFailed) and is_first,
        otherwise=_earlier(task, error),
    )


def source_fields(remote: RemoteSource | None) -> dict[str, str | None]:
    """Return the fields of an answer that say whose machine gave it."""
    if remote is None:
        return {}
    return {"provider": remote.provider, "returned_model": remote.model, "fingerprint": remote.fingerprint}


def passed_on(task: Task, error: Abstained, model: str, stage: str) -> Done | None:
    """Return how a job whose model abstained in this stage goes on: to the next model of its chain, at once, as if it
    had not been asked. Return None where no model comes after it.
    """
    following = next_in_chain(own_chain(task.job), model)
    if following is None:
        return None
    links = links_in(task.context)
    return Done(
        context={ABSTAINED: {**task.context.get(ABSTAINED, {}), model: reason_of(error)}},
        to=stage,
        model=following,
        tokens=links[0].tokens if links else None,
        usage=Usage(prompt_tokens=error.prompt_tokens, completion_tokens=0),
    )


def fields_of(task: Task, answer: Answer | Decisions, ms: float) -> dict[str, object]:
    """Return the fields of an answer that say which models were asked before, and why this one answered."""
    if not task.context:
        return {}
    before = tried_in(task.context)
    fields: dict[str, object] = {}
    if before:
        own = Attempt(model=answer.model, provider=answer.provider, ms=round(max(0, ms), 1), usage=answer.usage)
        fields["attempts"] = (*before, own)
    if (why := _because(task, answer.model)) is not None:
        fields["because"] = why
    return fields


def _because(task: Task, model: str) -> str | None:
    if not isinstance(task.job, ModelJob) or model not in task.job.chain:
        return None
    links = links_in(task.context)
    ahead = [link.model for link in links][: [link.model for link in links].index(model)] if links else []
    tried = {attempt.model: attempt for attempt in tried_in(task.context) if attempt.model in ahead}
    skipped = [link for link in links if link.skipped and link.model in ahead]
    abstained = {item: why for item, why in task.context.get(ABSTAINED, {}).items() if item in ahead}
    told = {*tried, *abstained, *(link.model for link in skipped)}
    when_breaker_open = [text for text in ahead if text not in told]
    if not ahead:
        return None
    parts = [in_words([tried[text] for text in ahead if text in tried], skipped)]
    parts += [f"{item} (abstained: {why})" for item, why in abstained.items()]
    parts += [f"{text} (not asked: it failed for others)" for text in when_breaker_open]
    return f"{model} answered in place of {', '.join(part for part in parts if part)}"[:MAX_SHORT_TEXT]


def _provider(generator: Generator) -> str | None:
    return generator.provider if isinstance(generator, HasProvider) else None


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
    if another is None:
        before = tried_in(task.context)
        reason = f"{reason_of(error)}; tried before: {in_words(before)}" if before else reason_of(error)
        return Dead(error.category, reason, usage=usage, failure=error.failure, place=error.place)
    attempt = failed_attempt(generator, error, ms, usage)
    context = {**another.context, **with_attempt(task.context, attempt)}
    return replace(another, context=context, otherwise=earlier, usage=usage, failure=error.failure, place=error.place)


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
    attempt = failed_attempt(generator, error, ms, usage)
    return Retry(
        reason_of(error),
        context={ROOM: room, **with_attempt(task.context, attempt)},
        more_tokens=room - job.sampling.max_tokens,
        otherwise=replace(answered, context={**answered.context, ROOM: None}),
        usage=usage,
        failure=error.failure,
    )


def _earlier(task: Task, error: HeadraceError) -> Done | None:
    """Return how the job goes on with the answer that it had before it was sent back to its model; None without one."""
    ends = (addition.without_another(task.context, error) for addition in reversed(answering()))
    done = next((end for end in ends if end is not None), None)
    return done and replace(done, context={**done.context, **forgotten(task.context)})


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
    told = None if completion is None else _repair_of(error, completion)
    context = {**forgotten(task.context), **({} if told is None else {REPAIR: told})}
    if error.category is Category.REROUTABLE and next_in_chain(job.chain, generator.alias) is not None:
        return Retry(reason, category=error.category, context=context)
    if error.failure != "unparsable" or _failed_before(task, generator.alias):
        return None
    if told is not None and completion is not None:
        needed = completion.prompt_tokens + completion.completion_tokens + _AROUND + job.sampling.max_tokens
        if needed <= generator.context_length:
            return Retry(reason, context=context, more_tokens=completion.completion_tokens + _AROUND)
    draws = job.sampling.temperature > 0 and job.sampling.seed is None
    return Retry(reason, context=forgotten(task.context)) if draws else None


def _failed_before(task: Task, model: str) -> bool:
    return any(attempt.model == model and attempt.failure is not None for attempt in tried_in(task.context))


def _repair_of(error: Unparsable, completion: Completion) -> dict[str, Any] | None:
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
