"""Letters about records that are refused, with all by which their senders find them. They end no job."""

from collections.abc import Iterable

from sqlalchemy import Connection

from headrace_schemas import Category
from headrace_workers.core.identity import refusal_id
from headrace_workers.core.ledger.dead_letters import Burial, Origin, announce, letter_row
from headrace_workers.core.ledger.outbox import put
from headrace_workers.core.ledger.records import Record
from headrace_workers.core.sql.database import insert
from headrace_workers.core.tables import DEAD_LETTERS

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
