"""The stage in which a model answers, and which jobs may share one call of it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from headrace_schemas import Answer, Category, GenerationJob, HeadraceError, Message, Output, Usage
from headrace_schemas.errors import Unparsable
from headrace_schemas.job import ModelJob
from headrace_schemas.limits import MAX_TEXT
from headrace_schemas.output_format import JsonObjectFormat, JsonSchemaFormat
from headrace_workers.core.ledger.outcome import Dead, Done, Outcome
from headrace_workers.core.pipeline.chain import TRIED, is_patient, own_chain
from headrace_workers.core.pipeline.receipt import seen_by
from headrace_workers.core.pipeline.stage import (
    FurtherAnswers,
    ReadBytes,
    Stage,
    Weight,
    no_further_answers,
    unexpected,
)
from headrace_workers.core.pipeline.task import Job, Task
from headrace_workers.features.generation.answer_additions import answering
from headrace_workers.features.generation.attempt import (
    failed,
    fields_of,
    forgotten,
    in_time,
    lets_go,
    no_job,
    repairing,
    share_left,
    shortened,
    source_fields,
    unparsable,
    with_room,
    without_repair,
)
from headrace_workers.features.generation.store.model_generations import ReturnedModel
from headrace_workers.models.engines.prefixes import digest_of
from headrace_workers.models.generator import Completion, Generator, Request
from headrace_workers.models.structured.tool_calls import with_tools
from headrace_workers.models.structured.tools import with_format
from headrace_workers.models.structured.validity import failure_of
from headrace_workers.models.token_bounds import tokens_at_most

Shown: TypeAlias = Callable[[str, Sequence[Message]], tuple[Message, ...]]


def as_it_is(_tenant: str, messages: Sequence[Message]) -> tuple[Message, ...]:
    """Show a conversation to its model as it is."""
    return tuple(messages)


def generate(
    tasks: Sequence[Task],
    *,
    generator: Generator,
    shown: Shown = as_it_is,
    cancelled: Callable[[str], bool] = no_job,
    monotonic: Callable[[], float] = time.monotonic,
) -> list[Outcome]:
    """Answer all tasks in one call of the model; the i-th outcome belongs to the i-th task.

    `shown(tenant, messages)` returns a conversation as its model reads it. Jobs that are
    `cancelled` meanwhile are computed no further.
    """
    jobs = [(index, task.job) for index, task in enumerate(tasks) if isinstance(task.job, GenerationJob)]
    begun, model = monotonic(), generator.alias
    requests = [
        Request(
            (*shown(job.tenant, _conversation(job, tasks[index].context)), *_turns(tasks[index].context)),
            with_room(job.sampling, tasks[index].context),
            job.tenant,
            lets_go(tasks[index], model, (share := share_left(tasks[index], model)), cancelled, begun, monotonic),
            share,
            patient=is_patient(job.chain, model, job.lane, tasks[index].seconds_left),
            output=job.output,
            tools=job.tools,
            offer=job.offer,
        )
        for index, job in jobs
    ]
    completions = generator.generate(requests) if requests else []
    ms = (monotonic() - begun) * 1000
    outcomes: dict[int, Outcome] = {}
    for (index, _), request, completion in zip(jobs, requests, completions, strict=True):
        found = in_time(completion, request.at_most, ms)
        try:
            outcomes[index] = _outcome(tasks[index], found, generator, ms)
        except Exception as error:  # else the whole group would be asked again, and paid for again
            outcomes[index] = unexpected(error)
    return [outcomes.get(index) or _not_a_generation(task) for index, task in enumerate(tasks)]


def _outcome(task: Task, completion: Completion | HeadraceError, generator: Generator, ms: float) -> Outcome:
    if isinstance(completion, Unparsable):
        return unparsable(task, completion, generator, ms, None, completion.usage)
    if isinstance(completion, HeadraceError):
        return without_repair(task, completion) or failed(task, completion, generator, ms)
    return _checked(task, completion, generator, ms)


def _checked(task: Task, completion: Completion, generator: Generator, ms: float) -> Outcome:
    """Return the outcome of an answer: done if it has the format that the job asks for."""
    # A byte-level model may write a NUL, which no event may carry.
    text = completion.text.replace("\x00", "\ufffd")
    if len(text) > MAX_TEXT:
        completion = replace(completion, text=text[:MAX_TEXT], finish_reason="length")
    elif text is not completion.text:
        completion = replace(completion, text=text)
    # Calls of tools: found in the answer and checked, before anything reads it.
    called = with_tools(completion, task.job, task.job_id) if isinstance(task.job, GenerationJob) else completion
    if isinstance(called, Unparsable):
        return unparsable(task, called, generator, ms, completion, _usage(completion))
    completion = called
    output = task.job.format_of(completion.tool_calls) if isinstance(task.job, GenerationJob) else None
    if output is None or (error := failure_of(output, completion.text, completion.finish_reason)) is None:
        answered = _answered(task, completion, generator, ms)
        if isinstance(output, JsonSchemaFormat | JsonObjectFormat) and completion.finish_reason == "length":
            return shortened(task, answered, generator, ms, completion, _usage(completion))
        return answered
    return unparsable(task, error, generator, ms, completion, _usage(completion))


def _answered(task: Task, completion: Completion, generator: Generator, ms: float) -> Done:
    context, text = task.context, completion.text
    additions = answering() if context else ()
    answer = Answer(
        text=text,
        finish_reason=completion.finish_reason,
        tool_calls=completion.tool_calls,
        model=generator.alias,
        quantization=generator.quantization,
        usage=_usage(completion),
        **source_fields(completion.remote),
        **{name: value for addition in additions for name, value in addition.answer_fields(context, text).items()},
    )
    if attempted := fields_of(task, answer, ms):
        answer = Answer.model_validate({**dict(answer), **attempted})
    return Done(
        Output(job_id=task.job_id, tenant=task.job.tenant, answer=answer),
        context={
            **({TRIED: []} if TRIED in context else {}),  # they are in the answer: another begins anew
            **forgotten(context),
            **seen_by(context, answer.provider, *(attempt.provider for attempt in answer.attempts)),
        },
        rows=(
            *(row for addition in additions for row in addition.rows(context, text)),
            *([] if completion.remote is None else [ReturnedModel(generator.alias, completion.remote.model)]),
        ),
    )


def _usage(completion: Completion) -> Usage:
    remote = completion.remote
    return Usage(
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        cached_tokens=remote.cached_tokens if remote else None,
        reasoning_tokens=remote.reasoning_tokens if remote else None,
    )


def _conversation(job: GenerationJob, context: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return what the model reads: the job's conversation, or what a feature makes of it, such as one with passages.
    It names the format that the answer must have.
    """
    if not context:
        return with_format(job.conversation, job)
    changed = (addition.conversation(job, context) for addition in answering())
    found = next((messages for messages in changed if messages is not None), job.conversation)
    return with_format(found, job)


def _turns(context: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the turns after the conversation: they tell the model what its last answers lacked."""
    if not context:
        return ()
    return (*(turn for addition in answering() for turn in addition.turns(context)), *repairing(context))


def _not_a_generation(task: Task) -> Outcome:
    return Dead(Category.PERMANENT, f"generation takes generation jobs, not {type(task.job).__name__}")


def own_model(_job_id: str, job: Job, _judge: str | None) -> str | None:
    """Return the model that a job asks first; None for a job that asks none."""
    return job.first_model if isinstance(job, ModelJob) else None


def sampling_group(job: Job, job_id: str) -> str:
    """Return the group of jobs that agree in sampling, and write answers of about the same length.

    A seeded sample must not depend on its neighbours, so it runs alone. Answers that are held to a format take longer
    than free ones, which would wait for them, since a group's answers come together.
    """
    assert isinstance(job, GenerationJob)  # noqa: S101 - no other asks for a model of its own
    s = job.sampling
    longest = f"{max(16, 1 << (s.max_tokens - 1).bit_length())}{'|held' if _is_held(job) else ''}"
    if s.repetition_penalty is not None:
        longest = f"{longest}|r{s.repetition_penalty}"
    if s.temperature == 0:
        return longest
    alone = f"|{job_id}" if s.seed is not None else ""
    return f"{longest}|{s.temperature}|{s.top_p}|{s.top_k}{alone}"


def shared_prefix(job: Job) -> int | None:
    """Return the same number for all jobs of a tenant that begin with the same long system prompt and tools; None for
    others.
    """
    if not isinstance(job, GenerationJob) or not (job.messages or job.tools):
        return None
    return digest_of(job.tenant, with_format(job.messages, job), job.offer)


def most_tokens(job: Job, read: ReadBytes) -> int:
    """Return the most tokens that one answer may read and write, whatever tokenizer counts them."""
    assert isinstance(job, GenerationJob)  # noqa: S101 - no other asks for a model of its own
    turns, tools = with_format(job.conversation, job), job.offer.tools
    return tokens_at_most(turns, job.output, tools, job.sampling.max_tokens, carried=read.carried)


def further_answers(job: Job) -> FurtherAnswers:
    """Return the further answer of a job that asks for a format or a call: one that lacks it may be asked for again."""
    return FurtherAnswers(1) if isinstance(job, GenerationJob) and _is_held(job) else no_further_answers(job)


def _is_held(job: GenerationJob) -> bool:
    return job.output is not None or bool(job.offer)


GENERATE: Final = Stage(
    name="generate",
    order=40,
    takes=(GenerationJob,),
    step=generate,
    weight=Weight.MODEL,
    needs=("shown", "cancelled"),
    model=own_model,
    chain=own_chain,
    group=sampling_group,
    prefix=shared_prefix,
    most_tokens=most_tokens,
    further_answers=further_answers,
)
