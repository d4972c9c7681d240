"""The fallback chain of a job: the models that may answer it, in order, and which of them were asked so far.

The chain is pinned at admission, since the catalogue may change while the job runs. It travels in the context of the
job's steps, and so do the attempts: a worker that is killed never begins a chain anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from headrace_schemas import GenerationJob
from headrace_schemas.events import Attempt
from headrace_schemas.limits import MAX_ATTEMPTS, MAX_SHORT_TEXT
from headrace_workers.core.pipeline.task import Job

CHAIN: Final = "chain"  # these two are names in the context of a step
TRIED: Final = "tried"
_LEAST_SHARE: Final = 0.001  # seconds


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
            {"model": each.model, "tokens": each.tokens} | ({"skipped": each.skipped} if each.skipped else {})
            for each in links
        ]
    }


def links_in(context: Mapping[str, Any]) -> tuple[Link, ...]:
    """Return the chain that a context pins; nothing for a job that names one model."""
    return tuple(Link(**each) for each in context.get(CHAIN, ()))


def with_chain(job: Job, context: Mapping[str, Any]) -> Job:
    """Return a job with the chain that was pinned for it, less the models that are skipped."""
    links = links_in(context) if context else ()
    if not links:
        return job
    return job.model_copy(update={"model": tuple(each.model for each in links if each.skipped is None)})


def next_in_chain(job: Job, tried: str) -> str | None:
    """Return the model of a job's chain after the one that was tried; None after the last."""
    if not isinstance(job, GenerationJob) or isinstance(job.model, str) or tried not in job.model:
        return None
    behind = job.model[job.model.index(tried) + 1 :]
    return behind[0] if behind else None


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
    counted = {each.model: each.tokens for each in links_in(context)}
    there, here = counted.get(model), counted.get(instead_of)
    return tokens if there is None or here is None else max(1, tokens + there - here)


def tried_in(context: Mapping[str, Any]) -> tuple[Attempt, ...]:
    """Return the attempts that failed so far."""
    return tuple(Attempt.model_validate(each) for each in context.get(TRIED, ()))


def with_attempt(context: Mapping[str, Any], attempt: Attempt) -> dict[str, Any]:
    """Return the context that adds a failed attempt. The oldest are forgotten beyond what a receipt lists."""
    found = (*tried_in(context), attempt)[-(MAX_ATTEMPTS - 1) :]
    return {TRIED: [each.model_dump(mode="json", exclude_none=True) for each in found]}


def in_words(attempts: Sequence[Attempt], links: Sequence[Link] = ()) -> str:
    """Return what was tried, for a person: `a (reroutable: it did not answer), b (…)`."""
    words = [f"{each.model} ({each.category}: {each.reason})" if each.reason else each.model for each in attempts]
    words += [f"{each.model} (skipped: {each.skipped})" for each in links if each.skipped]
    return ", ".join(words)[:MAX_SHORT_TEXT]
