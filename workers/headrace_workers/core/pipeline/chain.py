"""The fallback chain of a job: the models that may answer it, in order, and which answers next, and when. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Literal

from headrace_schemas import Category, HeadraceError
from headrace_schemas.errors import EndCode, PromptTooLong, ProviderNotAllowed
from headrace_schemas.events import Attempt
from headrace_schemas.job import Lane, ModelJob
from headrace_schemas.limits import MAX_ATTEMPTS, MAX_SHORT_TEXT
from headrace_workers.core.ledger.outcome import UNSAID_SECONDS, ProviderBusy
from headrace_workers.core.pipeline.task import Job

CHAIN: Final = "chain"  # these two are names in the context of a step
TRIED: Final = "tried"
_LEAST_SHARE: Final = 0.001  # seconds


OWN: Final = "own"  # the provider of models on machines of the deployment: texts that they read stay inside


class ProviderRefuses(HeadraceError):
    """An answer that the provider's policy withheld. Another model is not asked in its place: that would evade it."""

    category = Category.PERMANENT
    end_code = EndCode.CONTENT_POLICY
    billed = True


@dataclass(frozen=True, slots=True)
class Link:
    """A model of a chain. `tokens` is what one answer of it costs with its prompt. One that is `skipped` is never
    asked, for this reason.
    """

    model: str
    tokens: int | None = None
    skipped: str | None = None


def pin(links: Iterable[Link]) -> dict[str, Any]:
    """Return the context that pins this chain."""
    return {
        CHAIN: [
            {"model": link.model, "tokens": link.tokens} | ({"skipped": link.skipped} if link.skipped else {})
            for link in links
        ]
    }


def links_in(context: Mapping[str, Any]) -> tuple[Link, ...]:
    """Return the chain that a context pins; nothing for a job that names one model."""
    return tuple(Link(**item) for item in context.get(CHAIN, ()))


def with_chain(job: Job, context: Mapping[str, Any]) -> Job:
    """Return a job with the chain that was pinned for it, less the models that are skipped."""
    links = links_in(context) if context else ()
    if not links:
        return job
    return job.model_copy(update={"model": tuple(link.model for link in links if link.skipped is None)})


def own_chain(job: Job) -> tuple[str, ...]:
    """Return the models that may answer a job, in order; none for a job that asks none."""
    return job.chain if isinstance(job, ModelJob) else ()


def next_in_chain(chain: Sequence[str], tried: str | None, avoided: Collection[str] = ()) -> str | None:
    """Return the model of a chain after the one that was tried, and not one of `avoided`; None after the last."""
    behind = chain[chain.index(tried) + 1 :] if tried in chain else ()
    return next((model for model in behind if model not in avoided), None)


def share_of(chain: Sequence[str], model: str | None, seconds_left: float | None) -> float | None:
    """Return the seconds that an attempt of this model may take: an equal share, for each model that is left, of the
    time before the job's deadline. None for a job without one.
    """
    if seconds_left is None:
        return None
    left = len(chain) - chain.index(model) if model in chain else 1
    return max(_LEAST_SHARE, seconds_left / left)


def tokens_with(model: str, instead_of: str, tokens: int, context: Mapping[str, Any]) -> int:
    """Return what an answer costs with this model, where it costs `tokens` with another one of the chain."""
    if not context:
        return tokens
    counted = {link.model: link.tokens for link in links_in(context)}
    there, here = counted.get(model), counted.get(instead_of)
    return tokens if there is None or here is None else max(1, tokens + there - here)


def tried_in(context: Mapping[str, Any], besides: str | None = None) -> tuple[Attempt, ...]:
    """Return the attempts that failed so far, without those of the model `besides`."""
    return tuple(Attempt.model_validate(item) for item in context.get(TRIED, ()) if item["model"] != besides)


def with_attempt(context: Mapping[str, Any], attempt: Attempt) -> dict[str, Any]:
    """Return the context that adds a failed attempt. The oldest are forgotten beyond what a receipt lists."""
    attempts = (*tried_in(context), attempt)[-(MAX_ATTEMPTS - 1) :]
    return {TRIED: [item.model_dump(mode="json", exclude_none=True) for item in attempts]}


def in_words(attempts: Sequence[Attempt], links: Sequence[Link] = ()) -> str:
    """Return what was tried, for a person: `a (reroutable: it did not answer), b (…)`."""
    words = [
        f"{attempt.model} ({attempt.category}: {attempt.reason})" if attempt.reason else attempt.model
        for attempt in attempts
    ]
    words += [f"{link.model} (skipped: {link.skipped})" for link in links if link.skipped]
    return ", ".join(words)[:MAX_SHORT_TEXT]


NEAR_SECONDS: Final = 600.0  # to the deadline of batch work: it waits no longer for its first model
UNSERVED_SECONDS: Final = 5.0  # that a step waits before its model counts as held by no worker: one may be loading it
_LONGEST_WAIT: Final = 60.0  # seconds until a job looks again at a model that nobody may ask
# Seconds that a step waits in all for a busy provider, though another model could answer.
_PATIENCE: Final = {Lane.INTERACTIVE: 10.0, Lane.BATCH: 60.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempt:
    """An attempt that gave no answer, or that was not made.

    `category` is that of its failure; `moves` says that another model may answer, whatever the category. `busy` is the
    error of a provider that takes no calls; `waited` are the seconds since the step first waited for this model. Nobody
    may ask the model for `opens_in` seconds: its breaker is open, or no worker holds it. It was the model's attempt
    `number` of `most`; another of the same model begins `delay` seconds later. With `again` that comes before another
    model's.
    """

    model: str | None
    category: Category = Category.REROUTABLE
    moves: bool = False
    busy: ProviderBusy | None = None
    waited: float = 0.0
    opens_in: float = 0.0
    number: int = 0
    most: int = 1
    delay: float = 0.0
    again: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about a step whose attempt failed: it is tried again after `seconds`, goes to the next model at
    once, waits for so many seconds, which costs no attempt, or is dead.

    `model` is the one to ask, where that is another. `category` is that of the attempt, or of the job's end.
    """

    action: Literal["retry", "next", "wait", "dead"]
    category: Category
    seconds: float = 0.0
    model: str | None = None


def attempt_of(error: HeadraceError, model: str | None, job: Job | None, *, waited: float = 0.0) -> FailedAttempt:
    """Return the attempt of a model that failed with this error. A unit has no `job`."""
    refused = isinstance(error, ProviderRefuses) and isinstance(job, ModelJob) and job.fallback_on_refusal
    return FailedAttempt(
        model=model,
        category=error.category,
        moves=refused or isinstance(error, PromptTooLong | ProviderNotAllowed),
        busy=error if isinstance(error, ProviderBusy) else None,
        waited=waited,
    )


def decide_next(
    attempt: FailedAttempt,
    chain: Sequence[str],
    lane: Lane,
    seconds_left: float | None,
    avoided: Collection[str] = (),
) -> Decision:
    """Return which model answers next, and when, after this attempt of a model of the chain.

    `seconds_left` are those until the job's deadline; None without one. Nobody may ask the models that are `avoided`.
    """
    following = next_in_chain(chain, attempt.model, avoided)
    share = share_of(chain, attempt.model, seconds_left)
    in_share = inf if share is None else share
    at_most = (
        inf if following is None or _has_time(lane, seconds_left) else min(in_share, _PATIENCE[lane] - attempt.waited)
    )
    if (wait := _wait(attempt, at_most)) is not None:
        return Decision("wait", attempt.category, wait)
    may_retry, is_shut = attempt.number < attempt.most, attempt.model in avoided
    if attempt.again and may_retry and not is_shut and attempt.delay < in_share:
        return Decision("retry", attempt.category, attempt.delay)
    moves = attempt.moves or attempt.category is Category.REROUTABLE
    if following is not None and moves and (seconds_left is None or seconds_left > 0):
        return Decision("next", Category.REROUTABLE, model=following)
    if not attempt.category.retryable or not may_retry:
        return Decision("dead", attempt.category)
    if seconds_left is not None and attempt.delay >= seconds_left:
        return Decision("dead", Category.EXPIRED)
    back = None
    if is_shut and attempt.category is Category.REROUTABLE:
        back = next((model for model in chain if model not in avoided), None)
    return Decision("retry", attempt.category, attempt.delay, back)


def is_patient(chain: Sequence[str], model: str, lane: Lane, seconds_left: float | None) -> bool:
    """Return True if a job waits for this model of its chain while the provider is busy and names no time."""
    return next_in_chain(chain, model) is None or _has_time(lane, seconds_left)


def _has_time(lane: Lane, seconds_left: float | None) -> bool:
    return lane is Lane.BATCH and (seconds_left is None or seconds_left > NEAR_SECONDS)


def _wait(attempt: FailedAttempt, at_most: float) -> float | None:
    """Return for how many seconds a step waits for its model; None if it does not wait. `at_most` is infinite if no
    other model is to answer it now. Otherwise the step waits only for a time that the provider named.
    """
    if attempt.opens_in > 0:
        return min(attempt.opens_in, _LONGEST_WAIT) if at_most == inf else None
    if attempt.busy is None:
        return None
    after = attempt.busy.after
    if at_most == inf:
        return UNSAID_SECONDS if after is None else after
    return after if after is not None and attempt.busy.is_sure and after < at_most else None
