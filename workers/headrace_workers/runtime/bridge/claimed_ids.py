"""The ids that a refused record claims, read from what is right in it. Pure."""

import json
from typing import Any, Final

from pydantic import TypeAdapter

from headrace_schemas import CancelJob
from headrace_schemas.job import Job, derive_job_id
from headrace_schemas.limits import Key, Tenant
from headrace_schemas.topics import ABOUT_JOBS
from headrace_workers.core.ledger.dead_letters import Record

_TENANT: Final[TypeAdapter[str]] = TypeAdapter(Tenant)
_KEY: Final[TypeAdapter[str]] = TypeAdapter(Key)
_DEFAULT_TENANT: Final = Job.model_fields["tenant"].default


def claimed_by(record: Record) -> tuple[str | None, str | None]:
    """Return the tenant and the job's id that a record is about, each None if it is unknown."""
    fields = _fields(record.value)
    if fields is None:
        return None, None
    try:
        tenant = _TENANT.validate_python(fields.get("tenant", _DEFAULT_TENANT))
    except ValueError:
        return None, None
    try:
        if record.topic in ABOUT_JOBS:
            return tenant, CancelJob(job_id=fields.get("job_id")).job_id
        key = fields.get("idempotency_key")
        return tenant, derive_job_id(tenant, _KEY.validate_python(record.header("ce_id") if key is None else key))
    except ValueError:
        return tenant, None


def _fields(value: bytes | None) -> dict[str, Any] | None:
    try:
        found = json.loads(value or b"")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
