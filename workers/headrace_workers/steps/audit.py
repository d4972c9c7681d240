"""The step that answers afresh what was served by likeness, and compares. Nobody is told of it but the ledger."""

from collections.abc import Sequence

from headrace_schemas import GenerationJob, HeadraceError, Output
from headrace_schemas.reasons import reason_of
from headrace_workers.calibration.labels import compare
from headrace_workers.ledger.audit_rows import Audited
from headrace_workers.ports import Completion, Generator, Request
from headrace_workers.steps.outcome import Done, Outcome, Retry
from headrace_workers.steps.task import Unit


def audit(units: Sequence[Unit], *, generator: Generator) -> list[Outcome]:
    """Let the model answer each job that was served, in one call, as if nothing were known; the i-th outcome belongs to
    the i-th unit.

    What cannot be answered, now or after some attempts, is unknown: neither clean nor wrong.
    """
    asked = [
        (place, unit.job, unit.event)
        for place, unit in enumerate(units)
        if isinstance(unit.job, GenerationJob) and isinstance(unit.event, Output)
    ]
    requests = [Request(job.conversation, job.sampling) for _, job, _ in asked]
    completions = generator.generate(requests) if requests else []
    outcomes: list[Outcome] = [_unknown(unit, "it is no audit of a generation job") for unit in units]
    for (place, _, served), completion in zip(asked, completions, strict=True):
        outcomes[place] = _outcome(units[place], served, completion)
    return outcomes


def _outcome(unit: Unit, served: Output, completion: Completion | HeadraceError) -> Outcome:
    if isinstance(completion, HeadraceError):
        reason = reason_of(completion)
        given_up = _unknown(unit, f"given up: {reason}")
        return Retry(reason, otherwise=given_up) if completion.category.retryable else given_up
    fresh = completion.text.replace("\x00", "\ufffd")
    said = compare(served.text, fresh)
    return Done(rows=(Audited(unit.id, said.kind, said.reason, fresh),))


def _unknown(unit: Unit, reason: str) -> Done:
    return Done(rows=(Audited(unit.id, "unknown", reason),))
