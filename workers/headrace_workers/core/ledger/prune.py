"""Deletion of old rows, so that the ledger grows with the jobs that it keeps and not with all that there ever were."""

from sqlalchemy import ColumnElement, Connection, delete, func, select, text

from headrace_workers.core.ledger import accepted, changes, followers, incidents, lost_calls
from headrace_workers.core.ledger import fair_queueing as turns
from headrace_workers.core.ledger.accounting import account
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.sql.database import among, clock, now_ms
from headrace_workers.core.sql.delete_some import AT_ONCE, delete_some, lock_some
from headrace_workers.core.tables import BUDGETS, DEAD_LETTERS, JOBS, OUTBOX, STEPS


def prune(connection: Connection, older_than_ms: int) -> bool:
    """Forget a bounded number of old rows of each kind; return True if there are more.

    Delete jobs and units that ended so long ago, with their steps and dead letters, dead letters of records that never
    became jobs, what was learnt of groups and tenants, changes, and features' rows. Rows that another transaction holds
    stay.
    """
    before = now_ms() - older_than_ms
    # The record of a job's usage outlives it.
    counted = account(connection, clock(connection) - older_than_ms)
    ended = (JOBS.c.ended_at < before) & (JOBS.c.ended_at <= counted.until)
    more = counted.more | _forget_jobs(connection, ended)
    more |= accepted.forget(connection, older_than_ms)
    for feature in hooks():
        more |= feature.on_prune(connection, older_than_ms)
    incidents.forget(connection)
    followers.forget(connection)
    never_a_job = ~select(JOBS.c.id).where(JOBS.c.id == DEAD_LETTERS.c.job_id).exists()
    more |= delete_some(connection, DEAD_LETTERS.c.id, (DEAD_LETTERS.c.died_at < before) & never_a_job)
    more |= delete_some(connection, BUDGETS.c.group_key, BUDGETS.c.learnt_at < before)
    more |= changes.forget(connection)
    return turns.forget(connection) or more


def _forget_jobs(connection: Connection, old: ColumnElement[bool]) -> bool:
    """Forget a bounded number of these jobs or units; return True if there may be more.

    A job stays while an event of it, or of its subject, is set aside: someone has yet to see to the event, and will ask
    which job it belongs to; and when the event is published after all, no unit is made a second time. A job with an
    open unit stays, and so does a line of a batch whose output does not hold it yet.
    """
    about = OUTBOX.c.key == func.coalesce(JOBS.c.subject, JOBS.c.id)
    untold = select(OUTBOX.c.id).where(about, text("outbox.set_aside_at IS NOT NULL")).exists()
    unit = JOBS.alias("unit")
    is_open = text("unit.state = 'active' AND unit.subject IS NOT NULL")
    followed = select(unit.c.id).where(unit.c.subject == JOBS.c.id, is_open).exists()
    jobs = lock_some(connection, JOBS.c.id, old & JOBS.c.batch.is_(None) & ~untold & ~followed)
    if jobs:
        for column in (STEPS.c.job_id, DEAD_LETTERS.c.job_id):
            connection.execute(delete(column.table).where(among(connection, column, jobs)))
        lost_calls.forget(connection, jobs)
        for feature in hooks():
            feature.on_forget_jobs(connection, jobs)
        connection.execute(delete(JOBS).where(among(connection, JOBS.c.id, jobs)))
    return len(jobs) == AT_ONCE
