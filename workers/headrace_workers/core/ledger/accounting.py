"""Accounting: each job that ended is given to features once, behind the hot path.

Jobs are accounted for in the order of their ends, up to a time that lies far enough back that every ending transaction
has committed. That time is stored, and moves in the transaction in which features count. (If the database's clock is
set back, jobs that end in the repeated time are not counted the second time.)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pydantic_core import from_json
from sqlalchemy import Connection, select, update

from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.ledger.lost_calls import LostCall, take_known
from headrace_workers.core.sql.database import clock, insert
from headrace_workers.core.tables import COUNTED, JOBS, SILENT

LAG_MS: Final = 120_000  # longer than any transaction may take
_AT_ONCE = 2_000
_WHAT = "jobs"
_IS_COUNTED: Final = JOBS.c.subject.is_(None) | (JOBS.c.kind == SILENT)  # silent units ask models too


class FinishedJob(NamedTuple):
    """A job that ended at a time (ms), with its terminal event: a result, where it was answered."""

    tenant: str
    ended_at: int
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Accounted:
    """Time (ms) up to which all jobs that ended are accounted for; `more` wait."""

    until: int
    more: bool


def account_settled(connection: Connection) -> bool:
    """Account for jobs that ended long enough ago, a bounded number; return whether there are more."""
    return account(connection, clock(connection) - LAG_MS).more


def account(connection: Connection, up_to: int) -> Accounted:
    """Account for jobs that ended up to this time (ms), a bounded number a call."""
    until = lock_time(connection)
    if up_to <= until:
        return Accounted(until, False)
    ends = connection.execute(
        _ends().where(JOBS.c.ended_at > until, JOBS.c.ended_at <= up_to).order_by(JOBS.c.ended_at).limit(_AT_ONCE)
    ).all()
    more = len(ends) == _AT_ONCE
    if more:  # perhaps not all of the last millisecond
        last = ends[-1].ended_at
        ends = [row for row in ends if row.ended_at < last]
        up_to = last - 1
        if not ends:
            ends, up_to = connection.execute(_ends().where(JOBS.c.ended_at == last)).all(), last
    _give(connection, ends)
    connection.execute(update(COUNTED).where(COUNTED.c.what == _WHAT).values(until=up_to))
    return Accounted(up_to, more)


def account_early(connection: Connection, ends: Sequence[Any]) -> None:
    """Account now for these jobs (rows of JOBS), which have ended and are about to begin anew."""
    until = lock_time(connection)
    _give(connection, [row for row in ends if row.terminal is not None and row.ended_at > until])


def accounted_until(connection: Connection) -> int:
    """Return the time (ms) up to which all jobs are accounted for."""
    return int(connection.execute(_until()).scalar() or 0)


def lock_time(connection: Connection) -> int:
    """Return the time (ms) up to which all jobs are accounted for, and let no other transaction account for any."""
    first = insert(connection, COUNTED).values(what=_WHAT, until=0)
    connection.execute(first.on_conflict_do_nothing())
    return int(connection.execute(_until().with_for_update()).scalar_one())


def _until() -> Any:
    return select(COUNTED.c.until).where(COUNTED.c.what == _WHAT)


def _ends() -> Any:
    columns = (JOBS.c.id, JOBS.c.tenant, JOBS.c.ended_at, JOBS.c.terminal, JOBS.c.state, JOBS.c.subject)
    return select(*columns).where(JOBS.c.ended_at.is_not(None), JOBS.c.terminal.is_not(None), _IS_COUNTED)


def _give(connection: Connection, ends: Iterable[Any]) -> None:
    rows = list(ends)
    known = take_known(connection, {row.id: row.ended_at for row in rows})
    jobs = [
        FinishedJob(row.tenant, row.ended_at, _with_known(from_json(bytes(row.terminal)), known.get(row.id, ())))
        for row in rows
    ]
    results = [job for job, row in zip(jobs, rows, strict=True) if row.state == "done" and row.subject is None]
    for feature in hooks() if jobs else ():
        feature.on_ends(connection, jobs)
        if results:
            feature.on_results(connection, results)


def _with_known(told: dict[str, Any], calls: Sequence[LostCall]) -> dict[str, Any]:
    """Return what an end told, with the known costs of these calls in place of their bounds."""
    for call in calls:
        bound, less = call.bound or 0, (call.bound or 0) - (call.amount or 0)
        cost = told["cost"]
        models = [each for each in cost["models"] if each["model"] == call.model]  # those of a long chain may be cut
        for each in (cost, *models):
            each["amount"] -= less
            each["bound"] -= bound
    return told
