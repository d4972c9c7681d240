"""Steps that are held: lists of them, decisions of people about them, and their times."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, case, select, update

from headrace_schemas import Category
from headrace_workers.core.ledger.completion import lock_active
from headrace_workers.core.ledger.dead_letters import bury
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.ledger.recover import burials
from headrace_workers.core.sql.database import among, clock, now_ms
from headrace_workers.core.tables import IS_HELD, JOBS, NEVER, RELEASED, STEPS

_AT_ONCE: Final = 500
_COLUMNS: Final = (
    STEPS.c.job_id, JOBS.c.tenant, STEPS.c.stage, STEPS.c.reason, STEPS.c.held_at.label("since"),
    STEPS.c.ready_at.label("again"),
)  # fmt: skip


def held(connection: Connection, limit: int = 100) -> list[Row[Any]]:
    """Return the held steps, longest first: job, tenant, stage, reason, since when (ms), and when each is tried again
    by itself; NEVER if a person must decide.
    """
    query = select(*_COLUMNS).join(JOBS, JOBS.c.id == STEPS.c.job_id).where(IS_HELD).order_by(STEPS.c.held_at)
    return [*connection.execute(query.limit(limit))]


def of_job(connection: Connection, job_id: str) -> Row[Any] | None:
    """Return the held steps of a job, with all that each is given: kind and payload of the job, and the event that
    brought it there, None for the job itself.
    """
    given = (JOBS.c.kind, JOBS.c.payload, STEPS.c.event_type, STEPS.c.payload.label("event"))
    columns: list[ColumnElement[Any]] = [*_COLUMNS, *given]
    query = select(*columns).join(JOBS, JOBS.c.id == STEPS.c.job_id).where(IS_HELD, STEPS.c.job_id == job_id)
    return connection.execute(query).first()


def release_held(connection: Connection, job_ids: Sequence[str]) -> int:
    """Make the held steps of these jobs ready again; return how many. A step that was held for review knows that it was
    released.
    """
    woken_by = case((STEPS.c.ready_at >= NEVER, RELEASED), else_=STEPS.c.woken_by)
    alive = sorted(lock_active(connection, job_ids))
    return connection.execute(
        update(STEPS)
        .where(IS_HELD, among(connection, STEPS.c.job_id, alive))
        .values(state="ready", ready_at=now_ms(), reason=None, woken_by=woken_by, held_at=None)
    ).rowcount


def withhold(connection: Connection, job_ids: Sequence[str], reason: str) -> frozenset[str]:
    """End the held jobs as dead; return their ids. Nobody is given their answers any more."""
    alive = sorted(lock_active(connection, job_ids))
    mine = IS_HELD & among(connection, STEPS.c.job_id, alive)
    return _withhold(connection, mine, Category.PERMANENT, reason)


def withhold_late(connection: Connection, longest_ms: int) -> int:
    """End, as dead, what has been held for longer than this, a bounded number a call; return how many."""
    late = IS_HELD & (STEPS.c.held_at < now_ms() - longest_ms)
    jobs = list(connection.execute(select(STEPS.c.job_id).where(late).limit(_AT_ONCE)).scalars())
    if not jobs:
        return 0
    mine = late & among(connection, STEPS.c.job_id, sorted(lock_active(connection, jobs)))
    reason = f"it was held for longer than HEADRACE_HOLD, {longest_ms / 1000:g} seconds"
    return len(_withhold(connection, mine, Category.EXPIRED, reason))


def _withhold(connection: Connection, which: ColumnElement[bool], category: Category, reason: str) -> frozenset[str]:
    ended = bury(connection, burials(connection, which, category, f"withheld: {reason}"), clock(connection))
    if ended:
        for feature in hooks():
            feature.on_withheld(connection, sorted(ended), f"withheld: {reason}")
    return ended
