"""The step that answers a semantic hit afresh and compares. Only the ledger knows of it."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from headrace_schemas import GenerationJob, HeadraceError, Output, Usage
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Done, Outcome, Retry, wait_for
from headrace_workers.core.pipeline.task import Unit
from headrace_workers.core.ports import Completion, Generator, ProviderBusy, Request
from headrace_workers.features.cache.calibration.audit_labels import compare
from headrace_workers.features.cache.calibration.sampling import twice
from headrace_workers.features.cache.store.audit_rows import Audited, Own
from headrace_workers.features.generation.structured.tools import with_format

UNREPORTED: Final = Usage(prompt_tokens=0, completion_tokens=0)  # of a call that is charged with the most


def audit(units: Sequence[Unit], *, generator: Generator) -> list[Outcome]:
    """Answer each served job again in one call of the model, without the cache; the i-th outcome belongs to the i-th
    unit.

    Some are answered twice, to measure how far the model agrees with itself. If there is no answer after some attempts,
    the verdict is unknown: neither clean nor wrong.
    """
    found = [
        (place, unit.job, unit.event)
        for place, unit in enumerate(units)
        if isinstance(unit.job, GenerationJob) and isinstance(unit.event, Output)
    ]
    times = [2 if twice(units[place].id) else 1 for place, _, _ in found]
    requests = [
        Request(
            with_format(job.conversation, job),
            job.sampling,
            job.tenant,
            output=job.output,
            tools=job.tools,
            offer=job.offer,
        )
        for (_, job, _), count in zip(found, times, strict=True)
        for _ in range(count)
    ]
    completions = iter(generator.generate(requests) if requests else [])
    outcomes: list[Outcome] = [_unknown(unit, "it is no audit of a generation job") for unit in units]
    for (place, _, served), count in zip(found, times, strict=True):
        outcomes[place] = _outcome(units[place], served, *islice(completions, count))
    return outcomes


def compared(audit_id: str, served: str, fresh: str, again: str | None = None) -> Audited:
    """Return the verdict of an audit. `again` is a second fresh answer."""
    comparison = compare(served, fresh)
    own = None if again is None else Own(again, compare(fresh, again).kind)
    return Audited(audit_id, comparison.kind, comparison.reason, fresh, own)


def _outcome(
    unit: Unit, served: Output, first: Completion | HeadraceError, second: Completion | HeadraceError | None = None
) -> Outcome:
    if isinstance(first, ProviderBusy):
        return wait_for(first)
    if isinstance(first, HeadraceError):
        reason = reason_of(first)
        given_up = replace(_unknown(unit, f"given up: {reason}"), usage=UNREPORTED if first.billed else None)
        return Retry(reason, otherwise=given_up, billed=first.billed) if first.category.retryable else given_up
    again = _text(second) if isinstance(second, Completion) else None
    return Done(rows=(compared(unit.id, served.text, _text(first), again),), usage=_usage(first, second))


def _usage(first: Completion, second: Completion | HeadraceError | None) -> Usage:
    """Return the tokens of both answers; none where a second that did not come may be billed, or a provider counted
    none.
    """
    if isinstance(second, HeadraceError):
        return UNREPORTED if second.billed else _usage(first, None)
    both = [first] if second is None else [first, second]
    if any(each.prompt_tokens == 0 for each in both):
        return UNREPORTED
    return Usage(
        prompt_tokens=sum(each.prompt_tokens for each in both),
        completion_tokens=sum(each.completion_tokens for each in both),
    )


def _text(completion: Completion) -> str:
    return completion.text.replace("\x00", "\ufffd")


def _unknown(unit: Unit, reason: str) -> Done:
    return Done(rows=(Audited(unit.id, "unknown", reason),))
