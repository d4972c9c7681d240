"""Jobs of a request's JSON: the tenant is the caller's, the key comes from the header. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from headrace_schemas.codec import decode_value
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.event_types import job_type
from headrace_workers.core.pipeline.task import Job
from headrace_workers.http.bodies import unparsed
from headrace_workers.http.errors import Refusal, Why

USUAL_KIND: Final = "generation"
_LONGEST_KEY: Final = 256


def jobs_of(document: Any, tenant: str, key: str | None, *, kind: str | None = None) -> list[Job]:
    """Return the jobs of a document: an object is one job, a list of objects are many.

    Each says by `kind` what it asks for, a generation where it does not; with `kind` all are of that. `key` is the
    idempotency key of the request: of the only job as it is, of the n-th of many as `key/n` (from 0). Refused, or
    InvalidRecord, tells what is wrong, and with which of many.
    """
    if not isinstance(document, list):
        return [_job(document, tenant, key, kind)]
    if not document:
        raise Refusal(Why.INVALID, "the list of jobs is empty")
    jobs = []
    for number, each in enumerate(document):
        try:
            jobs.append(_job(each, tenant, None if key is None else f"{key}/{number}", kind))
        except InvalidRecord as error:
            raise InvalidRecord(f"job {number}: {error}") from error
    return jobs


def _job(document: Any, tenant: str, key: str | None, kind: str | None) -> Job:
    if not isinstance(document, Mapping):
        raise InvalidRecord("a job is a JSON object")
    fields = dict(document)
    named = fields.pop("kind", None) if kind is None else None
    found = job_type(named or kind or USUAL_KIND) if isinstance(named, str | None) else None
    if found is None:
        raise InvalidRecord(f"kind: {named!r} is not a kind of job: leave it out for a generation"[:_LONGEST_KEY])
    if fields.setdefault("tenant", tenant) != tenant:
        raise Refusal(Why.FORBIDDEN, f"this key belongs to the tenant {tenant}: leave `tenant` out")
    if key is not None:
        if fields.get("idempotency_key") not in (None, key):
            raise InvalidRecord("idempotency_key: the header Idempotency-Key has another value: send one of them")
        if len(key) > _LONGEST_KEY or not key:
            raise InvalidRecord(f"Idempotency-Key: must be 1 to {_LONGEST_KEY} characters, with the number of the job")
        fields["idempotency_key"] = key
    job = decode_value(found.name, unparsed(fields))
    assert isinstance(job, Job)  # noqa: S101 - of a job's type
    return job
