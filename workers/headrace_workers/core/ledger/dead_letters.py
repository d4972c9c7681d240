"""A record as it was consumed, and what can be read of it when it is refused. Pure."""

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, update

from headrace_schemas import Category, DeadLetter, HeadraceError, Topic
from headrace_schemas.errors import EndCode
from headrace_schemas.event_types import job_type
from headrace_schemas.events import Cost, Usage
from headrace_schemas.limits import DEAD_PREVIEW_BYTES, MAX_VALUE_BYTES
from headrace_schemas.output_format import Failure
from headrace_schemas.review import Review
from headrace_workers.core.fields import columns, copied
from headrace_workers.core.identity import end_id, refusal_id
from headrace_workers.core.ledger.job_ends import ActiveJob, finish, lock_active
from headrace_workers.core.ledger.outbox import Outgoing, outgoing, put
from headrace_workers.core.ledger.outcome import Dead
from headrace_workers.core.sql.database import bindparam_of, insert, one_of
from headrace_workers.core.sql.statements import append, run
from headrace_workers.core.tables import AS_SENT, DEAD_LETTERS, JOBS, STEPS

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
class Burial:
    """A job's end in `dead`, or a record's that was refused: then `job_id` is None, and it ends no job.

    Its fields are those of the event that tells of it and of the row that keeps it. `partition`, `offset`, `key` and
    the next are a refused record's, as far as they could be read.
    """

    id: str
    job_id: str | None = None
    tenant: str | None
    category: Category
    reason: str
    stage: str
    attempts: int = 0
    topic: Topic
    value: bytes
    headers: dict[str, str] = field(default_factory=dict)
    refers_to: str | None = None
    size: int | None = None  # of the value, in bytes, where only a part of it is here
    partition: int | None = None
    offset: int | None = None
    key: str | None = None
    ce_id: str | None = None
    ce_subject: str | None = None
    traceparent: str | None = None
    correlationid: str | None = None
    trace: str | None = None  # that is handed through: `traceparent`, where it is sound
    sound: bool = False  # a refused record that is good in itself: it may have been taken in before
    cost: Cost | None = None  # of a job that called models
    usage: Usage | None = None  # of its last call, where that had no answer of use
    accepted_at: int | None = None  # ms since 1970, of a job
    failure: Failure | None = None  # why its answer does not have the format that it asks for
    place: str | None = None  # where
    code: EndCode | None = None
    error: HeadraceError | None = field(default=None, compare=False)  # that refused a record, while it is at hand


def letter(burial: Burial) -> DeadLetter:
    """Return the event that tells of it. The original is shortened; the ledger keeps what a replay needs."""
    shown, size = burial.value[:DEAD_PREVIEW_BYTES], burial.size or len(burial.value)
    try:
        original, encoding = shown.decode(), "utf-8"
        if "\x00" in original:
            raise UnicodeDecodeError("utf-8", shown, 0, 1, "NUL")
    except UnicodeDecodeError:
        original, encoding = base64.b64encode(shown).decode(), "base64"
    return copied(
        DeadLetter,
        burial,
        **_told(burial),
        accepted_at=burial.accepted_at and datetime.fromtimestamp(burial.accepted_at / 1000, UTC),
        size=size,
        original=original,
        encoding=encoding,
        truncated=size > len(shown),
    )


def _told(burial: Burial) -> dict[str, Any]:
    """Return the fields that the event and the row write otherwise."""
    place = None if burial.place is None else _clean(burial.place)
    return {"reason": _clean(burial.reason), "place": place, "topic": str(burial.topic)}


def letter_of(row: Any) -> DeadLetter:
    """Return the event that published a row of the dead letters."""
    return letter(copied(Burial, row, value=bytes(row.value)))


def _clean(reason: str) -> str:
    return reason.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()[:_MAX_REASON]


def announce(burial: Burial, at_ms: int) -> Outgoing:
    """Return the record that tells of it. All letters about one job lie in one partition."""
    return outgoing(
        letter(burial),
        event_id=burial.id,
        job_id=burial.job_id,
        key=burial.job_id or burial.refers_to,
        traceparent=burial.trace,
        correlationid=burial.correlationid,
        at_ms=at_ms,
    )


def letter_row(burial: Burial, now: int) -> dict[str, Any]:
    """Return the row of a dead letter."""
    return columns(
        DEAD_LETTERS,
        burial,
        **_told(burial),
        category=str(burial.category),
        headers=json.dumps(burial.headers),
        value=burial.value[:MAX_VALUE_BYTES],
        size=len(burial.value),
        truncated=len(burial.value) > MAX_VALUE_BYTES,
        died_at=now,
    )


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
    for burial in due:
        steps.setdefault((burial.stage, _clean(burial.reason)), []).append(burial.job_id)
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


# The columns of a job and its step of which `job_burial` makes an end.
BURIED: Final = (
    STEPS.c.job_id, STEPS.c.stage, STEPS.c.attempts, JOBS.c.tenant, JOBS.c.kind, AS_SENT.label("as_sent"),
    JOBS.c.replays, JOBS.c.accepted_at, JOBS.c.traceparent, JOBS.c.correlationid, JOBS.c.subject,
)  # fmt: skip


def job_burial(row: Any, stage: str, dead: Dead, cost: Cost | None = None, *, attempts: int | None = None) -> Burial:
    """Return the burial of an accepted job, or of a unit, at one of its steps. The row is a `StepRow`, or has
    `BURIED`.
    """
    return copied(
        Burial,
        dead,
        id=end_id(row.job_id, "headrace.dead.v1", row.replays),
        job_id=row.job_id,
        tenant=row.tenant,
        stage=stage,
        attempts=row.attempts if attempts is None else attempts,
        topic=job.topic if (job := job_type(row.kind)) else Topic.RESULTS,  # a unit tells of an event there
        value=row.as_sent,
        refers_to=row.subject,
        traceparent=row.traceparent,
        trace=row.traceparent,
        correlationid=row.correlationid,
        cost=cost,
        accepted_at=row.accepted_at if row.subject is None else None,
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
    return Burial(
        id=refusal_id(str(record.topic), record.partition, record.offset, record.timestamp),
        refers_to=refers_to,
        tenant=tenant,
        category=category,
        reason=reason,
        stage=INGEST,
        topic=record.topic,
        value=record.value or b"",
        headers=record.shown_headers(),
        partition=record.partition,
        offset=record.offset,
        key=record.key_text,
        ce_id=record.header("ce_id"),
        ce_subject=record.header("ce_subject"),
        traceparent=record.header("ce_traceparent"),
        correlationid=record.header("ce_correlationid") or None,
        trace=traceparent,
        sound=sound,
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
