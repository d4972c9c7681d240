"""Results of a batch's lines, until they are in its files: a process that appends records the file's new length in the
same transaction, so of two that append, one wins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Connection, Integer, Select, and_, bindparam, case, func, select, update

from headrace_workers.core.sql.database import among
from headrace_workers.core.sql.statements import run
from headrace_workers.core.tables import IS_TO_COLLECT, JOBS
from headrace_workers.features.batches.feature import FILE_REWRITTEN
from headrace_workers.features.batches.store.batches import DONE, FAILED, LOST, OPEN, REFUSED, locked
from headrace_workers.features.batches.tables import BATCHES, IS_REFUSED, LINES
from headrace_workers.files.store import files
from headrace_workers.files.store.files import Growth, Overtaken, Piece


@dataclass(frozen=True, slots=True)
class JobEnd:
    """The end of a line's job: the event's type and bytes."""

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
    param: str | None = None  # the field of the line that is at fault, where it was refused


@dataclass(frozen=True, slots=True)
class Fate:
    """The outcome of a line: with a `code` it failed. It has the cost of its jobs, and is `cached` if no model was run
    for it.
    """

    line: EndedLine
    code: str | None = None
    cached: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    spent: int = 0


def ended(connection: Connection, number: int, limit: int, max_bytes: int) -> list[EndedLine]:
    """Lines of which all jobs have ended and that are in no output yet, in order: so many, and so many bytes of events,
    but always one.
    """
    rows = run(connection, _ended(), {"batch": number, "most": limit, "bytes": max_bytes})
    lines: list[EndedLine] = []
    for line, custom_id, tokens, text, job_id, state, event_type, event in rows:
        end = JobEnd(job_id, state, event_type or "", event or b"")
        lines.append(EndedLine(line, custom_id, tokens, text, (end,)))
    return lines


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
    query = select(LINES.c.number, LINES.c.custom_id, LINES.c.code, LINES.c.reason, LINES.c.param).where(
        IS_REFUSED, LINES.c.batch == number
    )
    return [
        EndedLine(line, custom_id, 0, code=code, reason=reason, param=param)
        for line, custom_id, code, reason, param in connection.execute(query.order_by(LINES.c.number).limit(limit))
    ]


def collected(
    connection: Connection,
    number: int,
    fates: Sequence[Fate],
    output: Growth | None,
    errors: Growth | None,
) -> None:
    """Record that these lines are in the files now, which have grown. Raise Overtaken if another process did so."""
    row = locked(connection, number)
    if row is None or row.ended_at is not None:
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


_AT_ONCE = 5_000  # lines


@dataclass(frozen=True, slots=True)
class Anew:
    """A file of a batch that consisted of the objects `seen` and consists of `pieces` now. `lost` are the lines that
    it held, of this `state` (DONE or FAILED), and that could not be written again, for this `reason`.
    """

    file_id: str
    state: str
    seen: Sequence[Piece]
    pieces: Sequence[Piece]
    lost: Sequence[int]
    reason: str


def ends(connection: Connection, job_ids: Sequence[str]) -> dict[str, JobEnd]:
    """Return how these jobs ended, by id. Jobs that have not ended or are forgotten are left out."""
    query = select(JOBS.c.id, JOBS.c.state, JOBS.c.terminal_type, JOBS.c.terminal).where(
        among(connection, JOBS.c.id, job_ids), JOBS.c.terminal.is_not(None)
    )
    return {row.id: JobEnd(row.id, row.state, row.terminal_type, row.terminal) for row in connection.execute(query)}


def rewritten(connection: Connection, number: int, anew: Anew) -> None:
    """Write that a file was written anew. Raise Overtaken if the batch is over.

    Lines that are lost become refused lines: the error file will have each of them, an answer as `lost`, a failure with
    its reason. Features that read the file begin at its start again (`FILE_REWRITTEN`).
    """
    row = locked(connection, number)
    if row is None or row.ended_at is not None:
        raise Overtaken("the batch is over")
    files.rewrite(connection, anew.file_id, anew.seen, anew.pieces)
    is_output = anew.state == DONE
    why = {"code": LOST, "reason": anew.reason} if is_output else {"reason": func.coalesce(LINES.c.reason, anew.reason)}
    for start in range(0, len(anew.lost), _AT_ONCE):
        lines = anew.lost[start : start + _AT_ONCE]
        mine = (LINES.c.batch == number) & (LINES.c.state == anew.state) & among(connection, LINES.c.number, lines)
        connection.execute(update(LINES).where(mine).values(state=REFUSED, **why))
    counted = BATCHES.c.completed if is_output else BATCHES.c.failed
    left = counted - len(anew.lost)
    changed: dict[Any, Any] = {counted: left}
    if is_output:
        changed[BATCHES.c.cached] = case((BATCHES.c.cached > left, left), else_=BATCHES.c.cached)
    if not anew.pieces:
        changed[BATCHES.c.output_file if is_output else BATCHES.c.error_file] = None
    connection.execute(update(BATCHES).where(BATCHES.c.number == number).values(changed))
    for tell in FILE_REWRITTEN.values():
        tell(connection, row.id, is_output)
