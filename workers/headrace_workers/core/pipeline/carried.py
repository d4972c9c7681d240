"""State that goes on with a job and is in the ledger only: context, and the records of stages that published
nothing.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headrace_schemas import HeadraceError
from headrace_schemas.events import JobEvent, StageRecord
from headrace_schemas.limits import MAX_EVENT_BYTES


class WrongOutcome(HeadraceError):
    """A step said what cannot be done: the message goes on from its stage's name."""


def published(event: object) -> tuple[StageRecord, ...]:
    """Return the records of stages that an event carries; a job, which is the first, carries none."""
    return event.stages if isinstance(event, JobEvent) else ()


def pack(context: Mapping[str, Any], unpublished: Sequence[StageRecord]) -> bytes | None:
    """Return both as JSON; None when both are empty. Raise WrongOutcome when the context is no JSON, or too large."""
    if not context and not unpublished:
        return None
    stages = [record.model_dump(exclude_none=True) for record in unpublished]
    try:
        value = json.dumps({"context": dict(context), "stages": stages}, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise WrongOutcome(f"returned a context that is no JSON: {error}") from error
    if len(value) > MAX_EVENT_BYTES:
        raise WrongOutcome(f"returned a context of {len(value)} bytes, more than the limit of {MAX_EVENT_BYTES}")
    return value


def unpack(value: bytes | None) -> tuple[dict[str, Any], tuple[StageRecord, ...]]:
    """Return the context, and the records of stages that published nothing."""
    if value is None:
        return {}, ()
    found = json.loads(value)
    return found["context"], tuple(StageRecord.model_validate(record) for record in found["stages"])
