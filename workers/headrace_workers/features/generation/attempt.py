"""One attempt of a model at a job: how long it may take, what its failure leads to, and what the receipt says of it."""

from dataclasses import replace
from typing import Final

from headrace_schemas import Answer, Category, GenerationJob, HeadraceError
from headrace_schemas.errors import PromptTooLong
from headrace_schemas.events import Attempt
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_workers.core.ledger.outcome import Dead, Outcome, Retry
from headrace_workers.core.pipeline.chain import in_words, links_in, next_in_chain, tried_in, with_attempt
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import Generator, HasProvider

_LEAST_SHARE: Final = 0.001


class AttemptTooLong(HeadraceError):
    """An attempt that used up its share of the job's deadline: the next model is to have the rest."""

    category = Category.REROUTABLE


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
    """Return the category of a failed attempt. A prompt that is too long for this model may fit into the next."""
    if isinstance(error, PromptTooLong) and next_in_chain(task.job, model) is not None:
        return Category.REROUTABLE
    return error.category


def failed_attempt(generator: Generator, category: Category, reason: str, ms: float) -> Attempt:
    """Return the record of an attempt that failed."""
    return Attempt(
        model=generator.alias, provider=_provider(generator), category=category, reason=reason, ms=round(max(0, ms), 1)
    )


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
