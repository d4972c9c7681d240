"""The step that lets a model answer."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from headrace_schemas import Answer, Category, GenerationJob, HeadraceError, Message, Output, Usage
from headrace_schemas.limits import MAX_TEXT
from headrace_workers.core.ledger.rows import Written
from headrace_workers.core.pipeline.outcome import Dead, Done, Outcome, outcome_of
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import Completion, Generator, Request
from headrace_workers.features.cache.audit_step import compared
from headrace_workers.features.cache.step import explored, recalled
from headrace_workers.features.judging import quality_retry as floor
from headrace_workers.features.knowledge.grounding import conversation_of, grounding_of
from headrace_workers.features.moderation import asked_again
from headrace_workers.features.moderation.canary import UNMARKED, Canaries


def no_job(_job_id: str) -> bool:
    """None is let go of."""
    return False


def generate(
    tasks: Sequence[Task],
    *,
    generator: Generator,
    canaries: Canaries = UNMARKED,
    let_go: Callable[[str], bool] = no_job,
) -> list[Outcome]:
    """Answer all tasks in one call of the model; the i-th outcome belongs to the i-th task. `canaries` mark the system
    prompts of whom the policy says so. Jobs that are `let_go` of meanwhile are computed no further.
    """
    jobs = [(place, task.job) for place, task in enumerate(tasks) if isinstance(task.job, GenerationJob)]
    shown = [canaries.shown(job.tenant, conversation_of(job, tasks[place].context)) for place, job in jobs]
    requests = [
        Request(
            (*messages, *_turns(tasks[place].context)), job.sampling, job.tenant, partial(let_go, tasks[place].job_id)
        )
        for messages, (place, job) in zip(shown, jobs, strict=True)
    ]
    completions = generator.generate(requests) if requests else []
    outcomes: list[Outcome] = [_not_a_generation(task) for task in tasks]
    for (place, job), completion in zip(jobs, completions, strict=True):
        outcomes[place] = _outcome(tasks[place], job.tenant, completion, generator)
    return outcomes


def _outcome(task: Task, tenant: str, completion: Completion | HeadraceError, generator: Generator) -> Outcome:
    if isinstance(completion, HeadraceError):
        before = asked_again.without_another(task.context, completion) or floor.without_another(
            task.context, completion
        )
        return before or outcome_of(completion)
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
                usage=Usage(prompt_tokens=completion.prompt_tokens, completion_tokens=completion.completion_tokens),
                recall=recalled(task.context),
                grounding=grounding_of(task.context, text),
            ),
        ),
        rows=_explored(task.context, text),
    )


def _turns(context: Mapping[str, Any]) -> tuple[Message, ...]:
    """What the model is told behind the conversation: what its answer lacked, and then why the next cannot be shown."""
    return (*floor.turns(context), *asked_again.turns(context))


def _explored(context: Mapping[str, Any], text: str) -> tuple[Written, ...]:
    """How what this job was nearly served compares with its answer, where that is wanted."""
    nearly = explored(context)
    return () if nearly is None else (compared(nearly.audit_id, nearly.text, text),)


def _not_a_generation(task: Task) -> Outcome:
    return Dead(Category.PERMANENT, f"generation takes generation jobs, not {type(task.job).__name__}")
