"""A line of a batch as it is taken in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger import ingest
from headrace_workers.core.ledger.ingest import NewJob, RecordContent, conflict_reasons
from headrace_workers.core.sql.database import among, clock
from headrace_workers.core.sql.statements import append
from headrace_workers.core.tables import JOBS
from headrace_workers.features.batches.store.batches import (
    BATCH_CANCELLED,
    BATCH_EXPIRED,
    BATCH_FAILED,
    BUDGET,
    CANCELLING,
    CONFLICT,
    DUPLICATE,
    IN_PROGRESS,
    OPEN,
    QUOTA,
    REFUSED,
    UNREADABLE,
    VALIDATING,
    locked,
)
from headrace_workers.features.batches.tables import BATCHES, LINES


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
    param: str | None = None  # the field that is at fault

    def without_jobs(self, code: str, reason: str) -> "NewLine":
        """The line, refused."""
        return replace(self, jobs=(), tokens=0, text=None, code=code, reason=reason, param=None)


# Lines whose jobs are known already, of a batch in which the line's own key is the job's.
#
# Such a job may have come by Kafka, or with another batch, and may have ended: the line takes it over as it is, and its
# end is written as that of any other. A job is one batch's at a time, until its end is in that one's files: the line
# waits for that.

_TAKE = update(JOBS).where(JOBS.c.id == bindparam("job")).values(batch=bindparam("to_batch"), line=bindparam("to_line"))


def adopt(connection: Connection, number: int, lines: Sequence[NewLine]) -> tuple[list[NewLine], frozenset[str], bool]:
    """Take over what is there of these lines: the lines that go on now, those with other content refused; the jobs that
    are taken over; and whether the rest waits for another batch.
    """
    known = _known(connection, [job.id for line in lines for job in line.jobs])
    busy = {job_id for job_id, batch in known.items() if batch not in (None, number)}
    going: list[NewLine] = []
    for line in lines:
        if any(job.id in busy for job in line.jobs):
            break
        going.append(line)
    there = [job for line in going for job in line.jobs if job.id in known]
    reasons = conflict_reasons(connection, [RecordContent(job.id, job.tenant, job.value) for job in there])
    other = {there[place].line: reason for place, reason in reasons.items()}
    adopted = [job for job in there if job.line not in other]
    _take(connection, number, adopted)
    going = [line.without_jobs(CONFLICT, other[line.number]) if line.number in other else line for line in going]
    return going, frozenset(job.id for job in adopted), len(going) < len(lines)


def _known(connection: Connection, job_ids: Sequence[str]) -> dict[str, int | None]:
    """Return the batches of the jobs that exist, locked until this transaction ends."""
    query = select(JOBS.c.id, JOBS.c.batch).where(among(connection, JOBS.c.id, job_ids)).order_by(JOBS.c.id)
    rows: Sequence[Any] = connection.execute(query.with_for_update()).all()
    return {row.id: row.batch for row in rows}


def _take(connection: Connection, number: int, jobs: Sequence[NewJob]) -> None:
    if jobs:
        connection.execute(_TAKE, [{"job": job.id, "to_batch": number, "to_line": job.line} for job in jobs])


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines that were read, in order; where the next begins, how many were read till there, and whether that is all.

    With `own_keys` the jobs of lines may be there already: see `adopt`.
    """

    lines: Sequence[NewLine]
    position: int
    line: int
    read: bool
    own_keys: bool = False


@dataclass(frozen=True, slots=True)
class Fed:
    """The outcome of a chunk: lines taken, jobs made, the new position in the input, and if the rest waits for the
    budget or for another batch.
    """

    lines: int
    jobs: int
    position: int
    line: int
    waits: bool = False


def feed(connection: Connection, number: int, at: int, chunk: Chunk) -> Fed | None:
    """Take in these lines, which begin at this position of the text. Return None if another process took them in.

    Lines whose `custom_id` an earlier one has are refused. A line that does not fit the budget now is left for later
    while other lines are under way, since these may cost less than was reserved; otherwise that line and the rest are
    not run.
    """
    row = locked(connection, number)
    if row is None or row.position != at or row.read:
        return None
    if chunk.lines and chunk.lines[0].number <= row.line:
        return None
    if row.state not in (VALIDATING, IN_PROGRESS, CANCELLING):
        return None
    now = clock(connection)
    lines = _stopped(row, now, _distinct(connection, number, chunk.lines))
    if any(not line.jobs and line.code is None for line in lines):
        return None  # who read them took the batch for one that is not run any more, which it is not yet
    lines, waits, exhausted = _within_budget(row, lines)
    adopted: frozenset[str] = frozenset()
    if chunk.own_keys:
        lines, adopted, held = adopt(connection, number, lines)
        waits, exhausted = waits or held, exhausted and not held
    taken = ingest.ingest(connection, [job for line in lines for job in line.jobs if job.id not in adopted])
    if chunk.own_keys and taken.known:
        raise Unavailable("jobs of these lines came in by another way at this very moment")
    known = {job.line for job in taken.known}
    if known:
        why = "a job of this line's id is there with other content"
        lines = [line.without_jobs(CONFLICT, why) if line.number in known else line for line in lines]
    over = {job.line: why for job, why in taken.over}
    lines = [line.without_jobs(QUOTA, over[line.number]) if line.number in over else line for line in lines]
    append(connection, LINES, [_row(number, line) for line in lines])
    position, line, read = chunk.position, chunk.line, chunk.read
    if waits:
        position, line = (lines[-1].end, lines[-1].number) if lines else (at, row.line)
        read = False
    connection.execute(
        update(BATCHES)
        .where(BATCHES.c.number == number)
        .values(
            position=position,
            line=line,
            read=read,
            crashes=row.crashes if line == row.line else 0,  # only those at the same line are its own
            taken=BATCHES.c.taken + len(lines),
            reserved=BATCHES.c.reserved + sum(line.tokens for line in lines),
            exhausted=exhausted,
            together=row.together or any(len(line.jobs) > 1 for line in lines),
            state=IN_PROGRESS if row.state == VALIDATING else row.state,
            began_at=func.coalesce(BATCHES.c.began_at, now),
        )
    )
    return Fed(len(lines), taken.new, position, line, waits)


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
        "param": None if line.param is None else line.param[:128],
    }


def _distinct(connection: Connection, number: int, lines: Sequence[NewLine]) -> list[NewLine]:
    """The lines, but those refused that are called as an earlier one."""
    names = sorted({line.custom_id for line in lines if line.custom_id is not None})
    if not names:
        return list(lines)
    there = (LINES.c.batch == number) & LINES.c.custom_id.is_not(None) & among(connection, LINES.c.custom_id, names)
    query = select(LINES.c.custom_id, func.min(LINES.c.number)).where(there).group_by(LINES.c.custom_id)
    first: dict[str, int] = dict(iter(connection.execute(query)))
    new_lines = []
    for line in lines:
        if line.custom_id is None or (other := first.setdefault(line.custom_id, line.number)) == line.number:
            new_lines.append(line)
            continue
        why = f"line {line.number} is called {line.custom_id!r}, and so is line {other}: each needs a name of its own"
        new_lines.append(line.without_jobs(DUPLICATE, why))
    return new_lines


def _stopped(found: Row[Any], now: int, lines: Sequence[NewLine]) -> list[NewLine]:
    """The lines, refused where the batch goes on no more."""
    if found.state == CANCELLING:
        code, why = BATCH_CANCELLED, "the batch was cancelled before this line was sent"
    elif found.reason is not None:
        unread = "the input cannot be read: `line` counts no empty lines; " if found.position == UNREADABLE else ""
        code, why = BATCH_FAILED, f"the batch failed before this line was sent: {unread}{found.reason}"
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
            rest = [
                new_line.without_jobs(BUDGET, _over(found)) if new_line.jobs else new_line for new_line in lines[place:]
            ]
            return [*fitting, *rest], False, True
    return fitting, False, False
