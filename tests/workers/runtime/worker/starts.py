"""Claims that were begun, without a ledger."""

from collections.abc import Sequence
from uuid import UUID

from headrace_schemas import Answer, Output, Usage
from headrace_workers.core.ledger.leases import Started, StepRow


def started(sizes: Sequence[int], *, queue: str = "model.echo", stage: str = "generate", claim_id: int = 1) -> Started:
    """A group of jobs that cost so many tokens each."""
    steps = tuple(_row(number, tokens) for number, tokens in enumerate(sizes))
    return Started(claim_id, queue, stage, "group", False, sum(sizes), 0, steps)


def output(job_id: str, *, read: int, written: int) -> Output:
    usage = Usage(prompt_tokens=read, completion_tokens=written)
    answer = Answer(text="a", finish_reason="stop", model="echo", quantization="none", usage=usage)
    return Output(job_id=job_id, tenant="t", answer=answer)


def _row(number: int, tokens: int) -> StepRow:
    known = dict.fromkeys(StepRow._fields)
    return StepRow(**{**known, "job_id": str(UUID(int=number)), "tokens": tokens})  # type: ignore[arg-type]
