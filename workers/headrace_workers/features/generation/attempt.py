"""One attempt of a model at a job: what its failure leads to, and what the receipt says of it."""

from dataclasses import replace
from math import inf
from typing import Final

from headrace_schemas import Answer, Category, GenerationJob, HeadraceError, Usage
from headrace_schemas.errors import ProviderNotAllowed, Unparsable
from headrace_schemas.events import Attempt
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Dead, Outcome, Retry, Signal, Wait
from headrace_workers.core.pipeline.chain import in_words, links_in, tried_in, with_attempt
from headrace_workers.core.pipeline.fallback import Decision, attempt_of, decide_next
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import Generator, HasProvider, Unseen
from headrace_workers.features.generation.engines.remote.failures import ServerFailed
from headrace_workers.features.generation.monitored_generator import BreakerIsOpen
from headrace_workers.features.generation.store.breakers import signal_of

_LEAST_SECONDS: Final = 0.001  # left to a job whose step has begun: settling decides whether its deadline has passed


class AttemptTooLong(HeadraceError):
    """An attempt that used up its share of the job's deadline: the next model is to have the rest."""

    category = Category.REROUTABLE
    billed = True


def decision_on(task: Task, error: HeadraceError, model: str) -> Decision:
    """Return who answers a task next, after this failure of a model. A retry is bounded when the step is settled."""
    chain = task.job.chain if isinstance(task.job, GenerationJob) else ()
    left = None if task.seconds_left is None else max(_LEAST_SECONDS, task.seconds_left)
    opens_in = (error.after or inf) if isinstance(error, BreakerIsOpen) else 0.0
    attempt = attempt_of(error, model, task.job, waited=task.waited)
    if isinstance(error, ServerFailed) and all(each.model != model for each in tried_in(task.context)):
        attempt = replace(attempt, again=True)
    return decide_next(attempt, chain, task.job.lane, left, opens_in)


def failed_attempt(
    generator: Generator, category: Category, error: HeadraceError, ms: float, usage: Usage | None = None
) -> Attempt:
    """Return the record of an attempt that failed. It names a provider only if that may have seen the text. `usage` is
    of an answer that is of no use.
    """
    return Attempt(
        model=generator.alias,
        provider=None if isinstance(error, ProviderNotAllowed | Unseen) else _provider(generator),
        category=category,
        reason=reason_of(error),
        failure=error.failure if isinstance(error, Unparsable) else None,
        ms=round(max(0, ms), 1),
        usage=usage,
    )


def spared(task: Task, generator: Generator, error: BreakerIsOpen, decision: Decision) -> Outcome:
    """Return the outcome of a task whose model is not asked, since its breaker is open."""
    reason = reason_of(error)
    if decision.action == "wait":
        return Wait(Signal(signal_of(generator.alias)), reason, at_most=decision.seconds)
    attempt = Attempt(model=generator.alias, category=decision.category, reason=reason, ms=0)  # it saw no text
    return with_failure(Retry(reason, category=decision.category), task, attempt)


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
