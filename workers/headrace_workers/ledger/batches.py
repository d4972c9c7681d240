"""Batches: files of lines that become jobs, each exactly once, a bounded number at a time.

A line's jobs are written in the transaction that says how far the file was read. Their ends are found by an index that
only jobs of batches are in, so that ending any other job costs nothing more. Whoever has appended an end to the output
says so in one transaction with the file's new length: of two that append, one wins.

Lock order: a batch comes before all that `complete.py` names.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    Row,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    update,
)

from headrace_workers.ledger import cancel, deliveries, files, ingest
from headrace_workers.ledger.append import append
from headrace_workers.ledger.batch_tables import (
    BATCHES,
    DONE,
    FAILED,
    FILES,
    IS_REFUSED,
    IS_UNFINISHED,
    LINES,
    OPEN,
    REFUSED,
)
from headrace_workers.ledger.database import among, clock, insert, locks_rows, now_ms
from headrace_workers.ledger.direct import run
from headrace_workers.ledger.files import Growth, Overtaken
from headrace_workers.ledger.ingest import NewJob
from headrace_workers.ledger.tables import IS_TO_COLLECT, IS_UNDER_WAY, JOBS

VALIDATING, IN_PROGRESS, CANCELLING, FINALIZING = "validating", "in_progress", "cancelling", "finalizing"
COMPLETED, FAILED_WHOLE, EXPIRED, CANCELLED = "completed", "failed", "expired", "cancelled"

# Why a line has no answer, beside the categories of dead letters.
DUPLICATE, CONFLICT, BUDGET, QUOTA = "duplicate_custom_id", "conflict", "budget", "quota"
BATCH_CANCELLED, BATCH_EXPIRED = "batch_cancelled", "batch_expired"

_FORGOTTEN_AT_ONCE = 5_000  # lines


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """A batch to be run. `key` names what was submitted; `window_ms` is how long it may take, and `output_ms` how long
    what comes out is kept.
    """

    id: str
    tenant: str
    input_file: str
    total: int
    window: str
    window_ms: int
    key: str | None = None
    endpoint: str | None = None
    metadata: str = "{}"
    defaults: str = "{}"
    max_tokens: int | None = None
    output_ms: int | None = None


@dataclass(frozen=True, slots=True)
class NewLine:
    """A line that was read: its jobs and what they may cost, or why there are none. `end` is where the next begins.

    `text` is kept until it is answered, where the answer depends on it.
    """

    number: int
    end: int
    custom_id: str | None = None
    jobs: tuple[NewJob, ...] = ()
    tokens: int = 0
    text: bytes | None = None
    code: str | None = None
    reason: str | None = None

    def without_jobs(self, code: str, reason: str) -> "NewLine":
        """The line, refused."""
        return replace(self, jobs=(), tokens=0, text=None, code=code, reason=reason)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines that were read, in order; where the next begins, how many were read till there, and whether that is all."""

    lines: Sequence[NewLine]
    position: int
    line: int
    read: bool


@dataclass(frozen=True, slots=True)
class Fed:
    """What came of a chunk: how many lines were taken, and jobs made; how far the input was read by that; whether the
    rest of the chunk waits for the budget.
    """

    lines: int
    jobs: int
    position: int
    line: int
    waits: bool = False


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job of a line ended: the event's type and bytes."""

    job_id: str
    state: str
    event_type: str
    event: bytes


@dataclass(frozen=True, slots=True)
class EndedLine:
    """A line of which all jobs have ended, or that was refused."""

    number: int
    custom_id: str | None
    tokens: int
    text: bytes | None = None
    ends: tuple[JobEnd, ...] = ()
    code: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a line: with a `code` it failed. What its jobs cost, and whether no model was run for it."""

    line: EndedLine
    code: str | None = None
    cached: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    spent: int = 0


def create(connection: Connection, new: NewBatch) -> tuple[Row[Any], bool]:
    """Write down a batch; whether it is new. One of the same tenant and key is there already."""
    now = clock(connection)
    row = {
        "id": new.id, "tenant": new.tenant, "key": new.key, "endpoint": new.endpoint, "input_file": new.input_file,
        "metadata": new.metadata, "defaults": new.defaults, "window": new.window, "state": VALIDATING,
        "total": new.total, "max_tokens": new.max_tokens, "output_ms": new.output_ms,
        "created_at": now, "expires_at": now + new.window_ms,
    }  # fmt: skip
    made = insert(connection, BATCHES).values(row).on_conflict_do_nothing().returning(BATCHES.c.number)
    is_new = connection.execute(made).scalar() is not None
    same = BATCHES.c.id == new.id if is_new else and_(BATCHES.c.tenant == new.tenant, BATCHES.c.key == new.key)
    return connection.execute(select(BATCHES).where(same)).one(), is_new


def batch(connection: Connection, batch_id: str, tenant: str | None = None) -> Row[Any] | None:
    """A batch; with `tenant` only where it is that one's."""
    query = select(BATCHES).where(BATCHES.c.id == batch_id)
    return connection.execute(query if tenant is None else query.where(BATCHES.c.tenant == tenant)).first()


def keyed(connection: Connection, tenant: str, key: str) -> Row[Any] | None:
    """The batch that was submitted under this key."""
    return connection.execute(select(BATCHES).where(BATCHES.c.tenant == tenant, BATCHES.c.key == key)).first()


def batches(connection: Connection, tenant: str | None, after: str | None, limit: int) -> list[Row[Any]]:
    """All batches or a tenant's, newest first, those that come after the batch `after`."""
    query = select(BATCHES)
    if tenant is not None:
        query = query.where(BATCHES.c.tenant == tenant)
    if after is not None and (last := batch(connection, after, tenant)) is not None:
        query = query.where(BATCHES.c.number < last.number)
    return list(connection.execute(query.order_by(BATCHES.c.number.desc()).limit(limit)))


def unfinished(connection: Connection) -> list[Row[Any]]:
    """The batches that are not over, oldest first."""
    return list(connection.execute(select(BATCHES).where(IS_UNFINISHED).order_by(BATCHES.c.number)))


def feed(connection: Connection, number: int, at: int, chunk: Chunk) -> Fed | None:
    """Take these lines in, which begin at this position of the text; None when others were there before.

    Lines whose `custom_id` an earlier one has are refused. What does not fit the budget now is left for later while
    lines are under way, which may cost less than was reserved; else that line and the rest are not run.
    """
    found = _locked(connection, number)
    if found is None or found.position != at or found.read:
        return None
    if found.state not in (VALIDATING, IN_PROGRESS, CANCELLING):
        return None
    now = clock(connection)
    lines = _stopped(found, now, _distinct(connection, number, chunk.lines))
    if any(not line.jobs and line.code is None for line in lines):
        return None  # who read them took the batch for one that is not run any more, which it is not yet
    lines, waits, exhausted = _within_budget(found, lines)
    taken = ingest.ingest(connection, [job for line in lines for job in line.jobs])
    known = {job.line for job in taken.known}
    if known:
        why = "a job of this line's id is there with other content"
        lines = [line.without_jobs(CONFLICT, why) if line.number in known else line for line in lines]
    over = {job.line: why for job, why in taken.over}
    lines = [line.without_jobs(QUOTA, over[line.number]) if line.number in over else line for line in lines]
    append(connection, LINES, [_row(number, line) for line in lines])
    position, line, read = chunk.position, chunk.line, chunk.read
    if waits:
        position, line = (lines[-1].end, lines[-1].number) if lines else (at, found.line)
        read = False
    connection.execute(
        update(BATCHES)
        .where(BATCHES.c.number == number)
        .values(
            position=position,
            line=line,
            read=read,
            taken=BATCHES.c.taken + len(lines),
            reserved=BATCHES.c.reserved + sum(each.tokens for each in lines),
            exhausted=exhausted,
            together=found.together or any(len(each.jobs) > 1 for each in lines),
            state=IN_PROGRESS if found.state == VALIDATING else found.state,
            began_at=func.coalesce(BATCHES.c.began_at, now),
        )
    )
    return Fed(len(lines), taken.new, position, line, waits)


def _locked(connection: Connection, number: int) -> Row[Any] | None:
    query = select(BATCHES).where(BATCHES.c.number == number)
    return connection.execute(query.with_for_update() if locks_rows(connection) else query).first()


def _row(number: int, line: NewLine) -> dict[str, Any]:
    return {
        "batch": number,
        "number": line.number,
        "custom_id": line.custom_id,
        "state": OPEN if line.jobs else REFUSED,
        "jobs": len(line.jobs),
        "tokens": line.tokens,
        "text": line.text,
        "code": line.code,
        "reason": line.reason,
    }


def _distinct(connection: Connection, number: int, lines: Sequence[NewLine]) -> list[NewLine]:
    """The lines, but those refused that are called as an earlier one."""
    names = sorted({line.custom_id for line in lines if line.custom_id is not None})
    if not names:
        return list(lines)
    there = (LINES.c.batch == number) & LINES.c.custom_id.is_not(None) & among(connection, LINES.c.custom_id, names)
    query = select(LINES.c.custom_id, func.min(LINES.c.number)).where(there).group_by(LINES.c.custom_id)
    first: dict[str, int] = dict(iter(connection.execute(query)))
    found = []
    for line in lines:
        if line.custom_id is None or (other := first.setdefault(line.custom_id, line.number)) == line.number:
            found.append(line)
            continue
        why = f"line {line.number} is called {line.custom_id!r}, and so is line {other}: each needs a name of its own"
        found.append(line.without_jobs(DUPLICATE, why))
    return found


def _stopped(found: Row[Any], now: int, lines: Sequence[NewLine]) -> list[NewLine]:
    """The lines, refused where the batch goes on no more."""
    if found.state == CANCELLING:
        code, why = BATCH_CANCELLED, "the batch was cancelled before this line was sent"
    elif found.expires_at <= now:
        code, why = BATCH_EXPIRED, f"the batch's time, {found.window}, was over before this line was sent"
    elif found.exhausted:
        code, why = BUDGET, _over(found)
    else:
        return list(lines)
    return [line.without_jobs(code, why) if line.jobs or line.code is None else line for line in lines]


def _over(found: Row[Any]) -> str:
    return f"the batch may cost {found.max_tokens:,} tokens, and this line would go beyond"


def _within_budget(found: Row[Any], lines: Sequence[NewLine]) -> tuple[list[NewLine], bool, bool]:
    """The lines that may be sent now, whether the rest has to wait, and whether there is no more for it."""
    if found.max_tokens is None or found.exhausted:
        return list(lines), False, found.exhausted
    left = found.max_tokens - found.spent - found.reserved
    under_way = found.reserved > 0
    fitting: list[NewLine] = []
    for place, line in enumerate(lines):
        if line.tokens <= left:
            left -= line.tokens
            under_way |= line.tokens > 0
            fitting.append(line)
        elif under_way:
            return fitting, True, False
        else:
            rest = [each.without_jobs(BUDGET, _over(found)) if each.jobs else each for each in lines[place:]]
            return [*fitting, *rest], False, True
    return fitting, False, False


def ended(connection: Connection, number: int, limit: int, max_bytes: int) -> list[EndedLine]:
    """Lines of which all jobs have ended and that are in no output yet, in order: so many, and so many bytes of events,
    but always one.
    """
    rows = run(connection, _ended(), {"batch": number, "most": limit, "bytes": max_bytes})
    found: list[EndedLine] = []
    for line, custom_id, tokens, text, job_id, state, event_type, event in rows:
        end = JobEnd(job_id, state, event_type or "", event or b"")
        found.append(EndedLine(line, custom_id, tokens, text, (end,)))
    return found


def ended_together(connection: Connection, number: int, limit: int) -> list[EndedLine]:
    """The same of lines that made several jobs each. The ends are in the order of the line's jobs' ids."""
    of_line = and_(LINES.c.batch == JOBS.c.batch, LINES.c.number == JOBS.c.line)
    query = (
        select(JOBS.c.line)
        .join(LINES, of_line)
        .where(IS_TO_COLLECT, JOBS.c.batch == number, LINES.c.state == OPEN, LINES.c.jobs > 1)
        .group_by(JOBS.c.line, LINES.c.jobs)
        .having(func.count() == LINES.c.jobs)
        .order_by(JOBS.c.line)
        .limit(limit)
    )
    whole = list(connection.execute(query).scalars())
    if not whole:
        return []
    columns = (LINES.c.number, LINES.c.custom_id, LINES.c.tokens, LINES.c.text, JOBS.c.id, JOBS.c.state,
               JOBS.c.terminal_type, JOBS.c.terminal)  # fmt: skip
    rows = connection.execute(
        select(*columns)
        .join(LINES, of_line)
        .where(IS_TO_COLLECT, JOBS.c.batch == number, among(connection, JOBS.c.line, whole))
        .order_by(JOBS.c.line, JOBS.c.id)
    )
    found: dict[int, EndedLine] = {}
    for line, custom_id, tokens, text, job_id, state, event_type, event in rows:
        known = found.get(line) or EndedLine(line, custom_id, tokens, text)
        found[line] = replace(known, ends=(*known.ends, JobEnd(job_id, state, event_type or "", event or b"")))
    return list(found.values())


@lru_cache
def _ended() -> Select[Any]:
    of_line = and_(LINES.c.batch == JOBS.c.batch, LINES.c.number == JOBS.c.line)
    first = (
        select(JOBS.c.line, LINES.c.custom_id, LINES.c.tokens, LINES.c.text, JOBS.c.id, JOBS.c.state,
               JOBS.c.terminal_type, JOBS.c.terminal)
        .join(LINES, of_line)
        .where(IS_TO_COLLECT, JOBS.c.batch == bindparam("batch", type_=BigInteger), LINES.c.state == OPEN,
               LINES.c.jobs == 1)
        .order_by(JOBS.c.line)
        .limit(bindparam("most", type_=Integer))
        .subquery()
    )  # fmt: skip
    size = func.coalesce(func.length(first.c.terminal), 0)
    summed = select(first, (func.sum(size).over(order_by=first.c.line) - size).label("before")).subquery()
    columns = [column for column in summed.c if column.name != "before"]
    return select(*columns).where(summed.c.before < bindparam("bytes", type_=BigInteger)).order_by(summed.c.line)


def refused(connection: Connection, number: int, limit: int) -> list[EndedLine]:
    """Lines that made no job and of which the error file does not tell yet, in order."""
    query = select(LINES.c.number, LINES.c.custom_id, LINES.c.code, LINES.c.reason).where(
        IS_REFUSED, LINES.c.batch == number
    )
    return [
        EndedLine(line, custom_id, 0, code=code, reason=reason)
        for line, custom_id, code, reason in connection.execute(query.order_by(LINES.c.number).limit(limit))
    ]


def collected(
    connection: Connection,
    number: int,
    fates: Sequence[Fate],
    output: Growth | None,
    errors: Growth | None,
) -> None:
    """These lines are in the files now, which have grown. Overtaken when another process has said so before."""
    found = _locked(connection, number)
    if found is None or found.ended_at is not None:
        raise Overtaken("the batch is over")
    for growth in (output, errors):
        if growth is not None:
            files.grow(connection, growth)
    by_code: dict[str | None, list[int]] = {}
    for fate in fates:
        by_code.setdefault(fate.code, []).append(fate.line.number)
    for code, numbers in by_code.items():
        changed = connection.execute(
            update(LINES)
            .where(
                LINES.c.batch == number, among(connection, LINES.c.number, numbers), LINES.c.state.in_((OPEN, REFUSED))
            )
            .values(state=DONE if code is None else FAILED, code=code, text=None)
        ).rowcount
        if changed != len(numbers):
            raise Overtaken("lines of the batch were collected meanwhile")
    if jobs := [end.job_id for fate in fates for end in fate.line.ends]:
        connection.execute(update(JOBS).where(among(connection, JOBS.c.id, jobs)).values(batch=None, line=None))
    done = [fate for fate in fates if fate.code is None]
    counted = BATCHES.c
    connection.execute(
        update(BATCHES)
        .where(BATCHES.c.number == number)
        .values(
            completed=counted.completed + len(done),
            failed=counted.failed + len(fates) - len(done),
            cached=counted.cached + sum(fate.cached for fate in done),
            prompt_tokens=counted.prompt_tokens + sum(fate.prompt_tokens for fate in fates),
            completion_tokens=counted.completion_tokens + sum(fate.completion_tokens for fate in fates),
            reserved=counted.reserved - sum(fate.line.tokens for fate in fates),
            spent=counted.spent + sum(fate.spent for fate in fates),
            output_file=func.coalesce(counted.output_file, output.file.id if output else None),
            error_file=func.coalesce(counted.error_file, errors.file.id if errors else None),
        )
    )


def wish_cancel(connection: Connection, batch_id: str, tenant: str | None = None) -> Row[Any] | None:
    """Let a batch be cancelled, unless it is over; how it stands then, None where there is no such batch."""
    mine = BATCHES.c.id == batch_id
    if tenant is not None:
        mine &= BATCHES.c.tenant == tenant
    connection.execute(
        update(BATCHES)
        .where(mine, BATCHES.c.state.in_((VALIDATING, IN_PROGRESS)))
        .values(state=CANCELLING, cancelling_at=now_ms())
    )
    return batch(connection, batch_id, tenant)


def let_go(connection: Connection, number: int, tenant: str, reason: str, limit: int) -> int:
    """Cancel jobs of a batch that are under way, a bounded number; how many."""
    query = select(JOBS.c.id).where(IS_UNDER_WAY, JOBS.c.batch == number).limit(limit)
    wishes = [cancel.Cancellation(job_id, tenant, reason) for job_id in connection.execute(query).scalars()]
    return sum(outcome == "cancelled" for outcome in cancel.cancel(connection, wishes))


def is_all_ended(connection: Connection, number: int) -> bool:
    """Whether no job of the batch is under way."""
    return connection.execute(select(JOBS.c.id).where(IS_UNDER_WAY, JOBS.c.batch == number).limit(1)).first() is None


def finalize(connection: Connection, number: int) -> None:
    """All its jobs have ended: what is left is to write down."""
    here = and_(BATCHES.c.number == number, BATCHES.c.finalizing_at.is_(None), BATCHES.c.ended_at.is_(None))
    state = case((BATCHES.c.state == CANCELLING, CANCELLING), else_=FINALIZING)
    connection.execute(update(BATCHES).where(here).values(finalizing_at=now_ms(), state=state))


def stop_reading(connection: Connection, number: int, reason: str) -> None:
    """The input cannot be read on: what was taken is brought to its end, and the batch has failed."""
    here = and_(BATCHES.c.number == number, BATCHES.c.ended_at.is_(None))
    connection.execute(update(BATCHES).where(here).values(read=True, reason=reason[:2_000]))


def finish(connection: Connection, number: int, digests: Mapping[str, str]) -> Row[Any] | None:
    """End a batch whose lines are all in its files, which have these digests; the row as it is then, None when it is
    not so or was done before.
    """
    found = _locked(connection, number)
    if found is None or found.ended_at is not None:
        return None
    if not found.read or found.taken != found.completed + found.failed:
        return None
    for file_id, digest in digests.items():
        files.complete(connection, file_id, digest)
    connection.execute(update(JOBS).where(IS_TO_COLLECT, JOBS.c.batch == number).values(batch=None, line=None))
    now = clock(connection)
    connection.execute(
        update(BATCHES)
        .where(BATCHES.c.number == number)
        .values(
            state=_end_of(connection, found), ended_at=now, finalizing_at=func.coalesce(BATCHES.c.finalizing_at, now)
        )
    )
    ended = connection.execute(select(BATCHES).where(BATCHES.c.number == number)).one()
    deliveries.announce(
        connection, tenant=ended.tenant, event_type=f"batch.{ended.state}", subject=ended.id, data=_told(ended)
    )
    return ended


def _told(ended: Row[Any]) -> dict[str, Any]:
    """What webhooks tell of a batch's end, beside its id."""
    return {
        "tenant": ended.tenant,
        "status": ended.state,
        "request_counts": {"total": ended.total, "completed": ended.completed, "failed": ended.failed},
        "output_file_id": ended.output_file,
        "error_file_id": ended.error_file,
        "metadata": json.loads(ended.metadata),
    }


def _end_of(connection: Connection, found: Row[Any]) -> str:
    if found.reason is not None:
        return FAILED_WHOLE
    if found.cancelling_at is not None:
        return CANCELLED
    late = select(LINES.c.number).where(LINES.c.batch == found.number, LINES.c.code == BATCH_EXPIRED).limit(1)
    if found.failed and found.expires_at <= clock(connection) and connection.execute(late).first() is not None:
        return EXPIRED
    return COMPLETED if found.completed else FAILED_WHOLE


def lines(
    connection: Connection, number: int, *, after: int = 0, limit: int = 1_000, state: str | None = None
) -> list[Row[Any]]:
    """The lines of a batch behind this one, in order: number, custom_id, state, code."""
    query = select(LINES.c.number, LINES.c.custom_id, LINES.c.state, LINES.c.code).where(
        LINES.c.batch == number, LINES.c.number > after
    )
    if state is not None:
        query = query.where(LINES.c.state == state)
    return list(connection.execute(query.order_by(LINES.c.number).limit(limit)))


def codes(connection: Connection, number: int) -> Counter[str]:
    """Why lines of a batch failed: how many, by code."""
    query = select(LINES.c.code, func.count()).where(LINES.c.batch == number, LINES.c.code.is_not(None))
    return Counter(dict(iter(connection.execute(query.group_by(LINES.c.code)))))


def forget(connection: Connection, older_than_ms: int) -> bool:
    """Forget a bounded part of a batch that ended so long ago, if its files are gone, too; whether there is more."""
    there = select(FILES.c.id).where(or_(FILES.c.id == BATCHES.c.output_file, FILES.c.id == BATCHES.c.error_file))
    old = select(BATCHES.c.number).where(BATCHES.c.ended_at < now_ms() - older_than_ms, ~there.exists())
    number = connection.execute(old.order_by(BATCHES.c.ended_at).limit(1)).scalar()
    if number is None:
        return False
    first = select(func.min(LINES.c.number)).where(LINES.c.batch == number)
    start = connection.execute(first).scalar()
    if start is not None:
        gone = and_(LINES.c.batch == number, LINES.c.number < start + _FORGOTTEN_AT_ONCE)
        connection.execute(delete(LINES).where(gone))
    else:
        connection.execute(delete(BATCHES).where(BATCHES.c.number == number))
    return True
