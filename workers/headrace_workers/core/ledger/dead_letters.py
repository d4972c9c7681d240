"""A record as it was consumed, and what can be read of it when it is refused. Pure."""

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from headrace_schemas import Category, DeadLetter, HeadraceError, Topic
from headrace_schemas.errors import EndCode
from headrace_schemas.event_types import job_type
from headrace_schemas.events import Cost, Usage
from headrace_schemas.limits import DEAD_PREVIEW_BYTES, MAX_VALUE_BYTES
from headrace_schemas.output_format import Failure
from headrace_schemas.review import Review
from headrace_workers.core.fields import copied
from headrace_workers.core.identity import end_id, refusal_id
from headrace_workers.core.ledger.job_ends import ActiveJob, finish, lock_active
from headrace_workers.core.ledger.outbox import Outgoing, outgoing, put
from headrace_workers.core.sql.database import bindparam_of, insert, one_of
from headrace_workers.core.sql.statements import append, run
from headrace_workers.core.tables import DEAD_LETTERS, STEPS

_KEPT_HEADERS = 64
_KEPT_CHARACTERS = 1024  # of a header's name, and of its value
_KEPT_BYTES = 1024  # of what a letter is looked up by: more than an index of PostgreSQL takes would stop ingest
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # no attribute of an event may hold one, nor that of a letter


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it was consumed. `timestamp` (ms) is the one that its log keeps, the same at every reading.

    `unreadable` says why the consumer could not read it: then `value` is the batch that it is in.
    """

    topic: Topic
    partition: int
    offset: int
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes | None
    timestamp: int = 0
    key: bytes | None = None
    unreadable: str | None = None

    def header(self, name: str) -> str | None:
        """Return a header as text, the last of its name, cut and with what is no text replaced; None when it is not
        there.
        """
        found = [value for header, value in self.headers if header == name]
        return _legible(found[-1]) if found and found[-1] is not None else None

    @property
    def key_text(self) -> str | None:
        """Return the key as text, as `header` gives it."""
        return None if self.key is None else _legible(self.key)

    def shown_headers(self) -> dict[str, str]:
        """Return a bounded part of the headers, for people to see and for a replay."""
        return {
            name[:_KEPT_CHARACTERS]: (value or b"").decode("utf-8", "replace")[:_KEPT_CHARACTERS]
            for name, value in self.headers[:_KEPT_HEADERS]
        }


@dataclass(frozen=True, slots=True)
class ReceivedReview:
    """A person's review of a job, and the record that brought it."""

    review: Review
    record: Record
    traceparent: str | None = None


def _legible(value: bytes) -> str:
    text = _CONTROL.sub("\ufffd", value[:_KEPT_BYTES].decode("utf-8", "replace"))
    return text.encode()[:_KEPT_BYTES].decode("utf-8", "ignore")


_MAX_REASON = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Position of a refused record, and its own ids as far as they could be read."""

    partition: int | None = None
    offset: int | None = None
    key: str | None = None
    ce_id: str | None = None
    ce_subject: str | None = None
    traceparent: str | None = None
    correlationid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Burial:
    """A job's end in `dead`, or a record's that was refused: then `job_id` is None, and it ends no job."""

    id: str
    job_id: str | None
    tenant: str | None
    category: Category
    reason: str
    stage: str
    attempts: int
    topic: Topic
    value: bytes
    headers: dict[str, str] = field(default_factory=dict)
    traceparent: str | None = None  # this and the next: handed through
    correlationid: str | None = None
    refers_to: str | None = None
    size: int | None = None  # of the value, in bytes, where only a part of it is here
    sound: bool = False  # a refused record that is good in itself: it may have been taken in before
    origin: Origin = field(default_factory=Origin)
    cost: Cost | None = None  # of a job that called models
    usage: Usage | None = None  # of its last call, where that had no answer of use
    accepted_at: int | None = None  # ms since 1970, of a job
    failure: Failure | None = None  # why its answer does not have the format that it asks for
    place: str | None = None  # where
    code: EndCode | None = None
    error: HeadraceError | None = field(default=None, compare=False)  # that refused a record, while it is at hand


def _origin_columns(origin: Origin) -> dict[str, Any]:
    return {name: getattr(origin, name) for name in Origin.__slots__}


def letter(burial: Burial) -> DeadLetter:
    """Return the event that tells of it. The original is shortened; the ledger keeps what a replay needs."""
    shown, size = burial.value[:DEAD_PREVIEW_BYTES], burial.size or len(burial.value)
    try:
        original, encoding = shown.decode(), "utf-8"
        if "\x00" in original:
            raise UnicodeDecodeError("utf-8", shown, 0, 1, "NUL")
    except UnicodeDecodeError:
        original, encoding = base64.b64encode(shown).decode(), "base64"
    return DeadLetter.model_validate(
        {
            "job_id": burial.job_id,
            "refers_to": burial.refers_to,
            "tenant": burial.tenant,
            "category": burial.category,
            "code": burial.code,
            "reason": _clean(burial.reason),
            "failure": burial.failure,
            "place": None if burial.place is None else _clean(burial.place),
            "stage": burial.stage,
            "attempts": burial.attempts,
            "cost": burial.cost,
            "usage": burial.usage,
            "accepted_at": None
            if burial.accepted_at is None
            else datetime.fromtimestamp(burial.accepted_at / 1000, UTC),
            "topic": str(burial.topic),
            **_origin_columns(burial.origin),
            "size": size,
            "original": original,
            "encoding": encoding,
            "truncated": size > len(shown),
        }
    )


def letter_of(row: Any) -> DeadLetter:
    """Return the event that published a row of the dead letters."""
    return letter(
        Burial(
            id=row.id,
            job_id=row.job_id,
            refers_to=row.refers_to,
            tenant=row.tenant,
            category=Category(row.category),
            code=None if row.code is None else EndCode(row.code),
            reason=row.reason,
            failure=row.failure,
            place=row.place,
            stage=row.stage,
            attempts=row.attempts,
            topic=Topic(row.topic),
            value=bytes(row.value),
            size=row.size,
            origin=copied(Origin, row),
        )
    )


def _clean(reason: str) -> str:
    return reason.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()[:_MAX_REASON]


def announce(burial: Burial, at_ms: int) -> Outgoing:
    """Return the record that tells of it. All letters about one job lie in one partition."""
    return outgoing(
        letter(burial),
        event_id=burial.id,
        job_id=burial.job_id,
        key=burial.job_id or burial.refers_to,
        traceparent=burial.traceparent,
        correlationid=burial.correlationid,
        at_ms=at_ms,
    )


def letter_row(burial: Burial, now: int) -> dict[str, Any]:
    """Return the row of a dead letter."""
    return {
        "id": burial.id,
        "job_id": burial.job_id,
        "refers_to": burial.refers_to,
        "tenant": burial.tenant,
        "category": str(burial.category),
        "code": burial.code,
        "reason": _clean(burial.reason),
        "failure": burial.failure,
        "place": None if burial.place is None else _clean(burial.place),
        "stage": burial.stage,
        "attempts": burial.attempts,
        "topic": str(burial.topic),
        **_origin_columns(burial.origin),
        "headers": json.dumps(burial.headers),
        "value": burial.value[:MAX_VALUE_BYTES],
        "size": len(burial.value),
        "truncated": len(burial.value) > MAX_VALUE_BYTES,
        "died_at": now,
    }


def bury(
    connection: Connection, burials: Sequence[Burial], now: int, active: Mapping[str, ActiveJob] | None = None
) -> frozenset[str]:
    """End these jobs in `dead` at their present step, and return them. Jobs that have ended meanwhile are skipped.

    `active` is what `lock_active` said of them in this transaction, where it was asked.
    """
    if active is None:
        active = lock_active(connection, [b.job_id for b in burials if b.job_id])
    due = [b for b in burials if b.job_id in active]
    if not due:
        return frozenset()
    letters = [(b.job_id or "", announce(b, now)) for b in due]
    silent = {job_id: event.value for job_id, event in letters if active[job_id].silent}
    finish(connection, "dead", letters, now, active, spent=silent)
    kept = [letter_row(b, now) for b in due if not active[b.job_id or ""].silent]
    # Nobody else writes these meanwhile, since their jobs are locked.
    there = run(connection, _known(connection.dialect.name), {"ids": [row["id"] for row in kept]}) if kept else ()
    known = {letter_id for (letter_id,) in there}
    append(connection, DEAD_LETTERS, [row for row in kept if row["id"] not in known])
    steps: dict[tuple[str, str], list[str | None]] = {}
    for each in due:
        steps.setdefault((each.stage, _clean(each.reason)), []).append(each.job_id)
    for (stage, reason), jobs in steps.items():
        which = {"jobs": jobs, "at": stage, "why": reason, "ended": now}
        run(connection, _dead_steps(connection.dialect.name), which)
    return frozenset(job_id for job_id, _ in letters)


@lru_cache
def _known(dialect: str) -> Any:
    ids = one_of(dialect, DEAD_LETTERS.c.id, bindparam_of(dialect, DEAD_LETTERS.c.id, name="ids"))
    return select(DEAD_LETTERS.c.id).where(ids)


@lru_cache
def _dead_steps(dialect: str) -> Any:
    jobs = one_of(dialect, STEPS.c.job_id, bindparam_of(dialect, STEPS.c.job_id, name="jobs"))
    return (
        update(STEPS)
        .where(jobs, STEPS.c.stage == bindparam("at"), STEPS.c.state != "done")
        .values(state="dead", claim_id=None, ended_at=bindparam("ended"), reason=bindparam("why"))
    )


def job_burial(
    *,
    job_id: str,
    tenant: str,
    kind: str,
    payload: bytes,
    replays: int,
    accepted_at: int,
    traceparent: str | None,
    correlationid: str | None,
    stage: str,
    attempts: int,
    category: Category,
    reason: str,
    subject: str | None = None,
    cost: Cost | None = None,
    usage: Usage | None = None,
    failure: Failure | None = None,
    place: str | None = None,
    code: EndCode | None = None,
) -> Burial:
    """Return the burial of an accepted job, or of a unit about this subject, at one of its steps."""
    return Burial(
        id=end_id(job_id, "headrace.dead.v1", replays),
        job_id=job_id,
        tenant=tenant,
        category=category,
        reason=reason,
        stage=stage,
        attempts=attempts,
        topic=job.topic if (job := job_type(kind)) else Topic.RESULTS,  # a unit tells of an event there
        value=payload,
        traceparent=traceparent,
        correlationid=correlationid,
        refers_to=subject,
        cost=cost,
        usage=usage,
        accepted_at=accepted_at if subject is None else None,
        failure=failure,
        place=place,
        code=code,
        origin=Origin(traceparent=traceparent, correlationid=correlationid),
    )


INGEST = "ingest"  # the "stage" of a refusal


def refusal(
    record: Record,
    category: Category,
    reason: str,
    *,
    refers_to: str | None,
    tenant: str | None,
    traceparent: str | None = None,
    sound: bool = False,
) -> Burial:
    """Return the letter about a record: the same one however often the record is read.

    `traceparent` is that of an envelope that was found good: only such a trace is handed through.
    """
    correlationid = record.header("ce_correlationid") or None
    return Burial(
        id=refusal_id(str(record.topic), record.partition, record.offset, record.timestamp),
        job_id=None,
        refers_to=refers_to,
        tenant=tenant,
        category=category,
        reason=reason,
        stage=INGEST,
        attempts=0,
        topic=record.topic,
        value=record.value or b"",
        headers=record.shown_headers(),
        traceparent=traceparent,
        correlationid=correlationid,
        sound=sound,
        origin=Origin(
            partition=record.partition,
            offset=record.offset,
            key=record.key_text,
            ce_id=record.header("ce_id"),
            ce_subject=record.header("ce_subject"),
            traceparent=record.header("ce_traceparent"),
            correlationid=correlationid,
        ),
    )


def over_quota(record: Record, job_id: str, tenant: str, reason: str) -> Burial:
    """Return the letter about a record that was good, but for its tenant's quota."""
    return refusal(record, Category.QUOTA, reason, refers_to=job_id, tenant=tenant)


def forgotten(record: Record, job_id: str, tenant: str) -> Burial:
    """Return the letter about a record that was read before its log was restored, and that may have been answered."""
    reason = (
        "this record was read before, and its log was restored from a backup since. It is older than the ledger "
        "remembers jobs (HEADRACE_RETENTION), so nothing says whether it was answered, and it is not run again by "
        "itself. If you need its answer, replay this dead letter"
    )
    return refusal(record, Category.INVALID, reason, refers_to=job_id, tenant=tenant, sound=True)


def refuse(connection: Connection, burials: Iterable[Burial], now: int) -> int:
    """Write dead letters of records that never became jobs; letters that are there already are skipped."""
    by_id = {burial.id: burial for burial in burials}
    if not by_id:
        return 0
    new = (
        connection.execute(
            insert(connection, DEAD_LETTERS).on_conflict_do_nothing(index_elements=["id"]).returning(DEAD_LETTERS.c.id),
            [letter_row(burial, now) for _, burial in sorted(by_id.items())],  # another may write the same
        )
        .scalars()
        .all()
    )
    written = frozenset(new)
    put(connection, [announce(burial, now) for key, burial in by_id.items() if key in written])
    return len(new)
