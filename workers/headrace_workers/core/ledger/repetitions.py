"""Records that come again under the id of a known job. With the same content they are safe; with another they are
reported.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from sqlalchemy import BigInteger, Connection, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from headrace_schemas import Category, InvalidRecord
from headrace_schemas.codec import decode_job, encode_value
from headrace_schemas.job import AnyJob
from headrace_workers.core.ledger.dead_letters import Burial
from headrace_workers.core.ledger.new_jobs import NewJob
from headrace_workers.core.ledger.refusals import refusal
from headrace_workers.core.sql.database import among
from headrace_workers.core.tables import JOBS

_AT_ONCE = 20  # values of up to a megabyte each that are held side by side


@dataclass(frozen=True, slots=True)
class RecordContent:
    """The content of a record: the id that it came under, its tenant (None if it has none), and its value."""

    job_id: str
    tenant: str | None
    value: bytes


def digest_of(job: AnyJob, value: bytes | None = None) -> str:
    """Return the SHA-256 of what a job says, in hex. `value` is it as JSON, where its sender has that."""
    if value is None or job.deadline is not None:
        value = encode_value(_timeless(job))
    return hashlib.sha256(value).hexdigest()


def repeated(connection: Connection, records: Sequence[RecordContent]) -> frozenset[int]:
    """Return the places of those records that say nothing new about a known job: it came with the same content.

    A deadline is no content, because it is often counted from the time of sending. A job that its tenant cancelled
    ahead has no content that could differ.
    """
    return frozenset(range(len(records))) - conflict_reasons(connection, records).keys()


def different_fields(before: AnyJob, now: AnyJob) -> list[str]:
    """Return the fields in which two jobs differ, such as `sampling.max_tokens`. A deadline is no content."""
    return list(_different(_timeless(before), _timeless(now))) if type(before) is type(now) else ["kind"]


def news(connection: Connection, refused: Sequence[Burial]) -> list[Burial]:
    """Return the refusals that need a letter; a sound record that was accepted before needs none."""
    sound = [burial for burial in refused if burial.sound]
    same = repeated(connection, [RecordContent(burial.refers_to or "", None, burial.value) for burial in sound])
    silent = {burial.id for n, burial in enumerate(sound) if n in same}
    return [burial for burial in refused if burial.id not in silent]


def conflicts(connection: Connection, jobs: Sequence[NewJob]) -> list[Burial]:
    """Return letters about the jobs that came with something new; none of these jobs was taken in."""
    reasons = conflict_reasons(connection, [RecordContent(job.id, job.tenant, job.payload) for job in jobs])
    return [
        refusal(
            jobs[n].record,
            Category.CONFLICT,
            reason,
            refers_to=jobs[n].id,
            tenant=jobs[n].tenant,
            traceparent=jobs[n].traceparent,
        )
        for n, reason in reasons.items()
    ]


def conflict_reasons(connection: Connection, records: Sequence[RecordContent]) -> dict[int, str]:
    """Return why those records are refused that say something new about a known job, by place. The fields in which they
    differ from it are named.
    """
    same = _same_value(connection, records)
    rest = [(n, content) for n, content in enumerate(records) if n not in same]
    return {n: reason for part in _parts(rest) for n, reason in _reasons(connection, part)}


def _same_value(connection: Connection, records: Sequence[RecordContent]) -> frozenset[int]:
    """Compare values where they lie: mostly that is all, and none of them needs to be read."""
    if not records:
        return frozenset()
    if connection.dialect.name == "postgresql":
        came = {
            "n": list(range(len(records))),
            "ids": [content.job_id for content in records],
            "values": [content.value for content in records],
        }
        return frozenset(connection.execute(_same_values(), came).scalars())
    return frozenset(
        n
        for n, content in enumerate(records)
        if connection.execute(_SAME_VALUE, {"job": content.job_id, "value": content.value}).first()
    )


_OTHER_CONTENT = "is there with other content"
_SAME_VALUE = select(JOBS.c.id).where(JOBS.c.id == bindparam("job"), JOBS.c.payload == bindparam("value"))


@lru_cache
def _same_values() -> Any:
    came = (
        func.unnest(
            bindparam("n", type_=ARRAY(BigInteger)),
            bindparam("ids", type_=ARRAY(JOBS.c.id.type)),
            bindparam("values", type_=ARRAY(JOBS.c.payload.type)),
        )
        .table_valued("n", "id", "value")
        .render_derived()
    )
    return select(came.c.n).join(JOBS, JOBS.c.id == came.c.id).where(JOBS.c.payload == came.c.value)


def _reasons(connection: Connection, part: Sequence[tuple[int, RecordContent]]) -> Iterator[tuple[int, str]]:
    query = select(JOBS.c.id, JOBS.c.tenant, JOBS.c.kind, JOBS.c.payload).where(
        among(connection, JOBS.c.id, [content.job_id for _, content in part])
    )
    known = {row.id: row for row in connection.execute(query)}
    for n, content in part:
        if (what := _conflict(known.get(content.job_id), content)) is not None:
            yield n, f"job {content.job_id} {what}: send this under an idempotency key of its own"


def _conflict(row: Any, content: RecordContent) -> str | None:
    """Return what became of the job that a record differs from; None where the record says the same."""
    if row is None:
        return _OTHER_CONTENT
    if row.kind == "unknown":
        return None if row.tenant == content.tenant else "was cancelled by another tenant"
    try:
        before, now = (decode_job(row.kind, value) for value in (row.payload, content.value))
    except InvalidRecord:
        return _OTHER_CONTENT
    fields = different_fields(before, now)
    return f"{_OTHER_CONTENT} (it differs in {', '.join(fields)})" if fields else None


def _different(before: BaseModel, now: BaseModel, within: str = "") -> Iterator[str]:
    for name in type(now).model_fields:
        one, other = getattr(before, name), getattr(now, name)
        if isinstance(one, BaseModel) and type(one) is type(other):
            yield from _different(one, other, f"{within}{name}.")
        elif one != other:
            yield within + name


def _timeless(job: AnyJob) -> AnyJob:
    return job.model_copy(update={"deadline": None})


def _parts(records: list[tuple[int, RecordContent]]) -> Iterator[list[tuple[int, RecordContent]]]:
    for start in range(0, len(records), _AT_ONCE):
        yield records[start : start + _AT_ONCE]
