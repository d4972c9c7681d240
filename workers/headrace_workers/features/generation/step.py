"""The step in which a model answers."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeAlias

from headrace_schemas import Answer, Category, GenerationJob, HeadraceError, Message, Output, Usage
from headrace_schemas.limits import MAX_TEXT
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Dead, Done, Outcome, Wait, outcome_of
from headrace_workers.core.pipeline.answer_additions import answering
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import Completion, Generator, RemoteSource, Request
from headrace_workers.features.generation.engines.remote.failures import ProviderBusy

_UNSAID: Final = 30.0  # seconds, where a provider does not say when it takes calls again

Shown: TypeAlias = Callable[[str, Sequence[Message]], tuple[Message, ...]]


def no_job(_job_id: str) -> bool:
    """Name no job."""
    return False


def as_it_is(_tenant: str, messages: Sequence[Message]) -> tuple[Message, ...]:
    """Show a conversation to its model as it is."""
    return tuple(messages)


def generate(
    tasks: Sequence[Task],
    *,
    generator: Generator,
    shown: Shown = as_it_is,
    cancelled: Callable[[str], bool] = no_job,
) -> list[Outcome]:
    """Answer all tasks in one call of the model; the i-th outcome belongs to the i-th task.

    `shown(tenant, messages)` returns a conversation as its model reads it. Jobs that are
    `cancelled` meanwhile are computed no further.
    """
    jobs = [(place, task.job) for place, task in enumerate(tasks) if isinstance(task.job, GenerationJob)]
    requests = [
        Request(
            (*shown(job.tenant, _conversation(job, tasks[place].context)), *_turns(tasks[place].context)),
            job.sampling,
            job.tenant,
            partial(cancelled, tasks[place].job_id),
        )
        for place, job in jobs
    ]
    completions = generator.generate(requests) if requests else []
    outcomes: list[Outcome] = [_not_a_generation(task) for task in tasks]
    for (place, job), completion in zip(jobs, completions, strict=True):
        outcomes[place] = _outcome(tasks[place], job.tenant, completion, generator)
    return outcomes


def _outcome(task: Task, tenant: str, completion: Completion | HeadraceError, generator: Generator) -> Outcome:
    context = task.context
    if isinstance(completion, ProviderBusy) and (wait := put_off(task, completion, datetime.now(UTC))) is not None:
        return wait
    if isinstance(completion, HeadraceError):
        ends = (each.without_another(context, completion) for each in reversed(answering()))
        return next((end for end in ends if end is not None), None) or outcome_of(completion)
    # A byte-level model may write a NUL, which no event may carry.
    text = completion.text.replace("\x00", "\ufffd")
    return Done(
        Output(
            job_id=task.job_id,
            tenant=tenant,
            answer=Answer(
                text=text[:MAX_TEXT],
                finish_reason="length" if len(text) > MAX_TEXT else completion.finish_reason,
                model=generator.alias,
                quantization=generator.quantization,
                usage=_usage(completion),
                **_source(completion.remote),
                **{name: value for each in answering() for name, value in each.answer_fields(context, text).items()},
            ),
        ),
        rows=tuple(row for each in answering() for row in each.rows(context, text)),
    )


def put_off(task: Task, busy: ProviderBusy, now: datetime) -> Wait | None:
    """Return the wait of a task whose provider takes no calls for now. It costs no attempt, lease or slot.

    Return None where another model of its chain is to answer, since this one takes calls too late.
    """
    assert isinstance(task.job, GenerationJob)  # noqa: S101 - no other asks a model here
    seconds = _UNSAID if busy.after is None else busy.after
    in_time = task.job.deadline is None or now + timedelta(seconds=seconds) < task.job.deadline
    has_another = task.job.chain[-1:] != (task.job.first_model,)
    if in_time or not has_another:
        return Wait(None, reason_of(busy), at_most=seconds)
    return None


def _usage(completion: Completion) -> Usage:
    remote = completion.remote
    return Usage(
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        cached_tokens=remote.cached_tokens if remote else None,
        reasoning_tokens=remote.reasoning_tokens if remote else None,
    )


def _source(remote: RemoteSource | None) -> dict[str, str | None]:
    """Return the fields of an answer that say whose machine gave it."""
    if remote is None:
        return {}
    return {"provider": remote.provider, "returned_model": remote.model, "fingerprint": remote.fingerprint}


def _conversation(job: GenerationJob, context: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return what the model reads: the job's conversation, or what a feature makes of it, such as one with passages."""
    changed = (each.conversation(job, context) for each in answering())
    return next((messages for messages in changed if messages is not None), job.conversation)


def _turns(context: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the turns after the conversation: they tell the model what its last answers lacked."""
    return tuple(turn for each in answering() for turn in each.turns(context))


def _not_a_generation(task: Task) -> Outcome:
    return Dead(Category.PERMANENT, f"generation takes generation jobs, not {type(task.job).__name__}")
