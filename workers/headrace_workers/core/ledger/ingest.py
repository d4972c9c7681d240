"""Records of one poll of Kafka, taken in together with the positions up to which it read: each new job exactly once,
with its first step and its place in fair queueing; a record under a known id by what it says.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from sqlalchemy import BigInteger, Connection, bindparam, delete, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from headrace_schemas import Category, InvalidRecord
from headrace_schemas.codec import decode_job, encode_value
from headrace_schemas.job import AnyJob
from headrace_workers.core.ledger import cancellation, dead_letters, leases, positions
from headrace_workers.core.ledger.cancellation import Cancellation, CancelOutcome
from headrace_workers.core.ledger.claims import Claim, QueueRoom, assign
from headrace_workers.core.ledger.dead_letters import Burial, ReceivedReview, Record, refusal
from headrace_workers.core.ledger.hooks import hold_tenants, hooks
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.sql.database import among, clock, insert_many, many, now_ms
from headrace_workers.core.sql.statements import run
from headrace_workers.core.tables import AS_SENT, JOBS


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that was decoded and found good, with its first steps."""

    id: str
    tenant: str
    kind: str
    payload: bytes
    record: Record  # as it came
    steps: tuple[NewStep, ...]
    traceparent: str | None = None
    correlationid: str | None = None
    ce_id: str | None = None  # of the event that brought it, where the job's id does not come from that
    batch: int | None = None  # of a batch's line: the batch's number, and the line's
    line: int | None = None
    sent: bytes | None = None  # of an application's job: the value as it came, where `payload` is what it stands for
    application: str | None = None  # of such a job: the version, such as ticket-triage@3
    callback: str | None = None  # JSON of its own, where it has one
    most_tokens: int | None = None  # that it may cost, where it may be answered again
    money: int = 0  # micro-units that its first call of a model may cost
    unpriced: str | None = None  # a model that it may need, and whose price is not known

    @property
    def value(self) -> bytes:
        """Return the value as it came."""
        return self.payload if self.sent is None else self.sent

    @property
    def cost(self) -> int:
        """Return the tokens that it may cost at most."""
        return sum(step.tokens for step in self.steps) if self.most_tokens is None else self.most_tokens


_COLUMNS = ("id", "tenant", "kind", "payload", "traceparent", "correlationid")
# Written where a job of the group has it: others are not charged for it.
_SOME = ("ce_id", "batch", "line", "sent", "application")


@lru_cache
def _new_jobs(dialect: str, names: tuple[str, ...]) -> Any:
    columns = [JOBS.c[name] for name in names]
    now = select(now_ms()).scalar_subquery()  # once, not for each row
    statement = insert_many(dialect, JOBS, columns, {"state": literal("active"), "accepted_at": now})
    return statement.on_conflict_do_nothing(index_elements=["id"]).returning(JOBS.c.id, JOBS.c.accepted_at)


@dataclass(frozen=True, slots=True)
class Taken:
    """Number of new jobs and of known ones, the claims that were assigned at once, and the jobs that were refused
    because of a quota, each with the reason.
    """

    new: int
    known: Sequence[NewJob] = ()
    assigned: tuple[Claim, ...] = ()
    over: Sequence[tuple[NewJob, str]] = ()


@dataclass(frozen=True, slots=True)
class WrittenJobs:
    """Rows of jobs that were written: `unique` are the jobs by their ids, `accepted_at` is when the new jobs were
    accepted, and `ahead` are the jobs of which the ledger knows nothing else.
    """

    unique: Mapping[str, NewJob]
    accepted_at: Mapping[str, int]
    ahead: frozenset[str] = frozenset()


def ingest(
    connection: Connection, jobs: Sequence[NewJob], room: QueueRoom | None = None, tenants: Collection[str] = ()
) -> Taken:
    """Write the new jobs, with their first steps. With `room`, these are assigned at once if there is room.

    Jobs beyond their tenant's quota are not taken in; of the jobs of one line, all or none are. `tenants` are others of
    this transaction: see `Hooks.on_admit`.
    """
    return begin(connection, jobs, write(connection, jobs), room, tenants=tenants)


def write(connection: Connection, jobs: Sequence[NewJob], unknown: Mapping[str, Mapping[str, Any]] = {}) -> WrittenJobs:
    """Write the rows of the jobs that are new, and of unknown jobs that were cancelled: see cancellation.py.

    Another bridge may write the same at this moment: both write all in the order of their ids, so that neither waits
    for the other in a circle.
    """
    unique: dict[str, NewJob] = {}
    for job in jobs:
        unique.setdefault(job.id, job)  # within one poll, too, the first wins
    names = (*_COLUMNS, *(name for name in _SOME if any(getattr(job, name) is not None for job in unique.values())))
    rows = {job_id: {name: getattr(job, name) for name in names} for job_id, job in unique.items()}
    others = {job_id: {**dict.fromkeys(names), **row} for job_id, row in unknown.items() if job_id not in rows}
    if not (rows or others):
        return WrittenJobs({}, {})
    ordered = [row for _, row in sorted((rows | others).items())]
    dialect = connection.dialect.name
    made: dict[str, int] = dict(run(connection, _new_jobs(dialect, names), many(dialect, ordered)))
    accepted_at = {job_id: at for job_id, at in made.items() if job_id in rows}
    return WrittenJobs(unique, accepted_at, frozenset(made.keys() - rows.keys()))


def begin(
    connection: Connection,
    jobs: Sequence[NewJob],
    written: WrittenJobs,
    room: QueueRoom | None = None,
    cancelled: Collection[str] = (),
    tenants: Collection[str] = (),
) -> Taken:
    """Let the jobs that were written begin, except for those that were cancelled since; see `ingest`."""
    unique, accepted_at = written.unique, written.accepted_at
    taken = [job for job in unique.values() if job.id in accepted_at]
    beginning = [job for job in taken if job.id not in cancelled]
    steps = [
        step._replace(read_bytes=len(job.payload), tenant=job.tenant, flow=job.batch or 0)
        for job in beginning
        for step in job.steps
    ]
    # From here on, others wait for the tenants' quotas until the transaction ends.
    over = _over(connection, beginning, {job.tenant for job in jobs} | set(tenants))
    if over:
        taken = [job for job in taken if job.id not in over]
        steps = [step for step in steps if step.job_id not in over]
    for feature in hooks():
        if feature.on_ingest is not None:
            feature.on_ingest(connection, taken)
    assigned = assign(connection, steps, room, max(accepted_at.values(), default=0))
    again = [job for job in jobs if unique[job.id] is not job or job.id not in accepted_at]
    known = [job for job in again if job.id not in over]
    return Taken(len(taken), known, assigned, [(job, over[job.id]) for job in jobs if job.id in over])


def _over(connection: Connection, jobs: Sequence[NewJob], tenants: Collection[str]) -> dict[str, str]:
    """Remove the jobs, which were just written, that exceed a quota; return them with the reasons."""
    over: dict[str, str] = {}
    if jobs:
        for feature in hooks():
            if feature.on_admit is not None:
                over |= feature.on_admit(connection, jobs, tenants)
    if over:
        connection.execute(delete(JOBS).where(among(connection, JOBS.c.id, sorted(over))))
    return over


# Records that come again under the id of a known job. With the same content they are safe; with another they are
# reported.

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
    reasons = conflict_reasons(connection, [RecordContent(job.id, job.tenant, job.value) for job in jobs])
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
_SAME_VALUE = select(JOBS.c.id).where(JOBS.c.id == bindparam("job"), bindparam("value") == AS_SENT)


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
    return select(came.c.n).join(JOBS, JOBS.c.id == came.c.id).where(came.c.value == AS_SENT)


def _reasons(connection: Connection, part: Sequence[tuple[int, RecordContent]]) -> Iterator[tuple[int, str]]:
    query = select(JOBS.c.id, JOBS.c.tenant, JOBS.c.kind, AS_SENT.label("value")).where(
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
    if row.kind == cancellation.UNKNOWN:
        return None if row.tenant == content.tenant else "was cancelled by another tenant"
    try:
        before, now = (decode_job(row.kind, value) for value in (row.value, content.value))
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


def consume(
    connection: Connection,
    jobs: Sequence[NewJob],
    refused: Sequence[Burial] = (),
    cancellations: Sequence[Cancellation] = (),
    following: Mapping[positions.LogPartition, positions.Advance] | None = None,
    room: QueueRoom | None = None,
    reviews: Sequence[ReceivedReview] = (),
) -> Taken:
    """Take in what one poll brought.

    `following` are the positions that come next. Raises PositionsMoved, so that nothing is written, where the ledger's
    positions are not those before them. With `room`, first steps are handed out at once where there is room: the caller
    sends them.

    A record that comes again with the same content is passed over, even where it is refused now, such as after its
    deadline. A record under the id of another job, or about another tenant's job, gets a dead letter. Reservations of
    gateways for records that do not become jobs are given back.
    """
    tenants = {burial.tenant for burial in refused if burial.tenant is not None}
    taken, outcomes = _take_in(connection, jobs, cancellations, room, tenants)
    letters = news(connection, refused) + conflicts(connection, taken.known)
    letters += [dead_letters.over_quota(job.record, job.id, job.tenant, why) for job, why in taken.over]
    not_taken = [*taken.known, *(job for job, _ in taken.over)]
    for feature in hooks():
        if feature.on_refused is not None:
            feature.on_refused(connection, refused, not_taken)
    letters += cancellation.foreign(cancellations, outcomes)
    if reviews:
        for feature in hooks():
            if feature.on_reviews is not None:
                letters += feature.on_reviews(connection, reviews)
    if letters:
        dead_letters.refuse(connection, letters, clock(connection))
    positions.advance(connection, following or {})
    return taken


def _take_in(
    connection: Connection,
    jobs: Sequence[NewJob],
    cancellations: Sequence[Cancellation],
    room: QueueRoom | None,
    tenants: Collection[str],
) -> tuple[Taken, Sequence[CancelOutcome]]:
    """Take jobs in and cancel others, in the lock order that `completion.py` states: claims, jobs, steps, quotas,
    turns. A job that comes with its cancellation is written, and never begins.
    """
    if not cancellations:
        return ingest(connection, jobs, room, tenants), ()
    leases.hold(connection, [item.job_id for item in cancellations])
    written = write(connection, jobs, cancellation.unknown_rows(cancellations))
    outcomes = cancellation.cancel(connection, cancellations, written.ahead)
    cancelled = {
        item.job_id
        for item, outcome in zip(cancellations, outcomes, strict=True)
        if outcome in ("cancelled", "cancelled_ahead")
    }
    everybody = {job.tenant for job in jobs} | {item.tenant for item in cancellations} | set(tenants)
    hold_tenants(connection, everybody)
    return begin(connection, jobs, written, room, cancelled, tenants), outcomes
