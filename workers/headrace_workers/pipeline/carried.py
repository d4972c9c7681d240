"""What goes on with a job in the ledger alone: context, and the records of stages that published nothing."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headrace_schemas.events import StageRecord


def pack(context: Mapping[str, Any], unpublished: Sequence[StageRecord]) -> bytes | None:
    """As JSON; None when there is nothing."""
    if not context and not unpublished:
        return None
    stages = [record.model_dump(exclude_none=True) for record in unpublished]
    return json.dumps({"context": dict(context), "stages": stages}, ensure_ascii=False).encode()


def unpack(value: bytes | None) -> tuple[dict[str, Any], tuple[StageRecord, ...]]:
    """Context, and the records of stages that published nothing."""
    if value is None:
        return {}, ()
    found = json.loads(value)
    return found["context"], tuple(StageRecord.model_validate(record) for record in found["stages"])
