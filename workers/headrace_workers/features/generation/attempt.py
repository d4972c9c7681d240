"""One attempt of a model at a job: how long it may take, what its failure leads to, and what the receipt says of it."""

from dataclasses import replace
from typing import Final

from headrace_schemas import Answer, Category, GenerationJob, HeadraceError, Usage
from headrace_schemas.errors import PromptTooLong, ProviderNotAllowed, Unparsable
from headrace_schemas.events import Attempt
from headrace_schemas.job import Lane
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Dead, Outcome, Retry, Signal, Wait
from headrace_workers.core.pipeline.chain import in_words, links_in, next_in_chain, tried_in, with_attempt
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import Generator, HasProvider
from headrace_workers.features.generation.engines.remote.failures import ProviderRefuses
from headrace_workers.features.generation.monitored_generator import BreakerIsOpen
from headrace_workers.features.generation.store.breakers import signal_of

NEAR_SECONDS: Final = 600.0  # to the deadline of a batch job: it waits no longer for a model whose breaker is open
_LEAST_SHARE: Final = 0.001
_LONGEST_WAIT: Final = 60.0


class AttemptTooLong(HeadraceError):
    """An attempt that used up its share of the job's deadline: the next model is to have the rest."""

    category = Category.REROUTABLE
    billed = True


def share_of(task: Task, model: str) -> float | None:
    """Return the seconds that this model's attempt may take: an equal share, for each model that is left, of the time
    before the job's deadline. None for a job without one.
    """
    if task.seconds_left is None or not isinstance(task.job, GenerationJob):
        return None
    chain = task.job.chain
    left = len(chain) - chain.index(model) if model in chain else 1
    return max(_LEAST_SHARE, task.seconds_left / left)


def category_of(error: HeadraceError, task: Task, model: str) -> Category:
    """Return the category of a failed attempt. A prompt that is too long for this model may fit into the next, whose
    provider the tenant may allow. A refusal by a provider's policy goes to another model only if the job says so.
    """
    if not isinstance(task.job, GenerationJob) or next_in_chain(task.job, model) is None:
        return error.category
    if isinstance(error, PromptTooLong | ProviderNotAllowed) or (
        isinstance(error, ProviderRefuses) and task.job.fallback_on_refusal
    ):
        return Category.REROUTABLE
    return error.category


def failed_attempt(
    generator: Generator, category: Category, error: HeadraceError, ms: float, usage: Usage | None = None
) -> Attempt:
    """Return the record of an attempt that failed. It names a provider only if that may have seen the text. `usage` is
    of an answer that is of no use.
    """
    return Attempt(
        model=generator.alias,
        provider=None if isinstance(error, ProviderNotAllowed) else _provider(generator),
        category=category,
        reason=reason_of(error),
        failure=error.failure if isinstance(error, Unparsable) else None,
        ms=round(max(0, ms), 1),
        usage=usage,
    )


def spared(task: Task, generator: Generator, error: BreakerIsOpen) -> Outcome:
    """Return the outcome of a task whose model is not asked, since its breaker is open: another model is asked at once,
    unless the job is batch work that has time to wait.
    """
    reason = reason_of(error)[:MAX_SHORT_TEXT]
    if next_in_chain(task.job, generator.alias) is not None and not may_wait(task.job.lane, task.seconds_left):
        attempt = Attempt(model=generator.alias, category=Category.REROUTABLE, reason=reason, ms=0)  # it saw no text
        return with_failure(Retry(reason, category=Category.REROUTABLE), task, attempt)
    return Wait(Signal(signal_of(generator.alias)), reason, at_most=min(error.after or _LONGEST_WAIT, _LONGEST_WAIT))


def may_wait(lane: Lane, seconds_left: float | None) -> bool:
    """Return True if a job may wait until its model answers again, rather than go to a dearer one."""
    return lane is Lane.BATCH and (seconds_left is None or seconds_left > NEAR_SECONDS)


def with_failure(outcome: Outcome, task: Task, attempt: Attempt) -> Outcome:
    """Return the outcome of a failed attempt with the record of it, and of those before it."""
    if isinstance(outcome, Retry):
        return replace(outcome, context={**outcome.context, **with_attempt(task.context, attempt)})
    before = tried_in(task.context)
    if isinstance(outcome, Dead) and before:
        return replace(outcome, reason=f"{outcome.reason}; tried before: {in_words(before)}")
    return outcome


def fields_of(task: Task, answer: Answer, ms: float) -> dict[str, object]:
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
    if not isinstance(task.job, GenerationJob) or model not in task.job.chain:
        return None
    links = links_in(task.context)
    ahead = [each.model for each in links][: [each.model for each in links].index(model)] if links else []
    tried = {each.model: each for each in tried_in(task.context) if each.model in ahead}
    skipped = [each for each in links if each.skipped and each.model in ahead]
    spared = [each for each in ahead if each not in tried and each not in {link.model for link in skipped}]
    if not ahead:
        return None
    parts = [in_words([tried[each] for each in ahead if each in tried], skipped)]
    parts += [f"{each} (not asked: it failed for others)" for each in spared]
    return f"{model} answered in place of {', '.join(part for part in parts if part)}"[:MAX_SHORT_TEXT]


def _provider(generator: Generator) -> str | None:
    return generator.provider if isinstance(generator, HasProvider) else None
