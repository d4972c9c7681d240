"""Forgetting what is old, so that the ledger grows with what is kept and not with what was."""

from typing import Any

from sqlalchemy import Connection, delete, select, text

from headrace_workers.ledger import troubles
from headrace_workers.ledger.changes import KEPT_MS
from headrace_workers.ledger.database import among, locks_rows, now_ms
from headrace_workers.ledger.tables import BUDGETS, CHANGES, DEAD_LETTERS, ENTRIES, JOBS, OUTBOX, SERVES, STEPS, TURNS
from headrace_workers.ledger.turns import CLOCK

_AT_ONCE = 500
_SERVES_MS = 90 * 86_400_000


def prune(connection: Connection, older_than_ms: int) -> bool:
    """Forget jobs that ended long ago, with their steps and dead letters, letters of records that never were jobs, what
    was learnt of groups and tenants that are no more, and of answers those that died, whom they were served, and their
    changes: a bounded number of each; whether there is more. What others
    hold is left.

    Not jobs of which an event was set aside: someone has yet to see to it, and will ask which job it is of. Nor those
    with a unit that is open.
    """
    before = now_ms() - older_than_ms
    untold = select(OUTBOX.c.id).where(OUTBOX.c.key == JOBS.c.id, text("outbox.set_aside_at IS NOT NULL")).exists()
    unit = JOBS.alias("unit")
    is_open = text("unit.state = 'active' AND unit.subject IS NOT NULL")
    followed = select(unit.c.id).where(unit.c.subject == JOBS.c.id, is_open).exists()
    jobs = _free(connection, JOBS.c.id, (JOBS.c.ended_at < before) & ~untold & ~followed)
    if jobs:
        for column in (STEPS.c.job_id, DEAD_LETTERS.c.job_id, JOBS.c.id):
            connection.execute(delete(column.table).where(among(connection, column, jobs)))
    never_a_job = ~select(JOBS.c.id).where(JOBS.c.id == DEAD_LETTERS.c.job_id).exists()
    troubles.forget(connection)
    more = len(jobs) == _AT_ONCE
    for column, old in (
        (DEAD_LETTERS.c.id, (DEAD_LETTERS.c.died_at < before) & never_a_job),
        (BUDGETS.c.group_key, BUDGETS.c.learnt_at < before),
        # A tenant whose virtual time has been overtaken is as one that was never here: see ingest.py.
        (TURNS.c.tenant, (TURNS.c.tenant != CLOCK) & (TURNS.c.turn <= _service())),
        (ENTRIES.c.id, ENTRIES.c.died_at < before),
        (CHANGES.c.number, CHANGES.c.at < now_ms() - KEPT_MS),
        # An answer that turns out to be wrong is traced further back than jobs are remembered.
        (SERVES.c.id, SERVES.c.served_at < now_ms() - max(older_than_ms, _SERVES_MS)),
    ):
        keys = _free(connection, column, old)
        if keys:
            connection.execute(delete(column.table).where(among(connection, column, keys)))
        more = more or len(keys) == _AT_ONCE
    return more


def _service() -> Any:
    clock = TURNS.alias("clock")
    return select(clock.c.turn).where(clock.c.tenant == CLOCK).scalar_subquery()


def _free(connection: Connection, column: Any, where: Any) -> list[Any]:
    """The keys of a bounded number of rows that nobody else holds, locked."""
    query = select(column).where(where).limit(_AT_ONCE)
    if locks_rows(connection):
        query = query.with_for_update(skip_locked=True)
    return list(connection.execute(query).scalars())
