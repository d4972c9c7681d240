"""Forgetting what is old, so that the ledger grows with what is kept and not with what was."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, select, text

from headrace_workers.core.ledger import accepted
from headrace_workers.core.ledger import fair_queueing as turns
from headrace_workers.core.ledger import incidents as troubles
from headrace_workers.core.ledger.accounting import account
from headrace_workers.core.ledger.changes import KEPT_MS, newest
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.sql.database import among, clock, now_ms
from headrace_workers.core.tables import BUDGETS, DEAD_LETTERS, JOBS, OUTBOX, STEPS
from headrace_workers.features.access.store import token_quotas
from headrace_workers.features.cache.audit_tables import AUDITS
from headrace_workers.features.cache.store import followers
from headrace_workers.features.cache.tables import CHANGES, ENTRIES, SERVES, USES
from headrace_workers.features.knowledge.store import base_uses
from headrace_workers.features.quality.store import verdicts
from headrace_workers.features.webhooks.store import endpoints
from headrace_workers.features.webhooks.tables import CALLBACKS_OF_JOBS, DELIVERIES

_AT_ONCE = 500
_SERVES_MS = 90 * 86_400_000
_PLACES_MS = 30 * 86_400_000  # where callbacks went is known for so long after the last
_WITH_JOBS = (STEPS.c.job_id, DEAD_LETTERS.c.job_id, DELIVERIES.c.id, CALLBACKS_OF_JOBS.c.job_id)


def prune(connection: Connection, older_than_ms: int, of_units: Mapping[str, int]) -> bool:
    """Forget jobs and units that ended long ago, with their steps and dead letters, letters of records that never were
    jobs, what was learnt of groups and tenants that are no more, and of answers those that died, what they rest on,
    whom they were served, the audits of that, and their changes: a bounded number of each; whether there is more. What
    others hold is left. The units of some stages are remembered for another time (ms): `of_units`.
    """
    before = now_ms() - older_than_ms
    # What a job has used outlives it.
    counted = account(connection, clock(connection) - older_than_ms)
    ended = (JOBS.c.ended_at < before) & (JOBS.c.ended_at <= counted.until)
    more = counted.more | _forget_jobs(connection, ended & ~_of_stages(list(of_units)))
    for stage, ms in of_units.items():
        more |= _forget_jobs(connection, (JOBS.c.ended_at < now_ms() - ms) & _of_stages([stage]))
    more |= accepted.forget(connection, older_than_ms)
    for each in hooks():
        more |= each.on_prune(connection, older_than_ms)
    more |= verdicts.forget(connection)
    never_a_job = ~select(JOBS.c.id).where(JOBS.c.id == DEAD_LETTERS.c.job_id).exists()
    troubles.forget(connection)
    followers.forget(connection)
    base_uses.forget(connection)
    endpoints.forget_places(connection, max(older_than_ms, _PLACES_MS))
    for column, old in (
        (DEAD_LETTERS.c.id, (DEAD_LETTERS.c.died_at < before) & never_a_job),
        (BUDGETS.c.group_key, BUDGETS.c.learnt_at < before),
        (ENTRIES.c.id, ENTRIES.c.died_at < before),
        # The last of each kind stays: who has followed up to there may go on from it, however long nothing changes.
        (CHANGES.c.number, (CHANGES.c.at < now_ms() - KEPT_MS) & CHANGES.c.number.not_in(_last_changes())),
        # An answer that turns out to be wrong is traced further back than jobs are remembered.
        (SERVES.c.id, SERVES.c.served_at < now_ms() - max(older_than_ms, _SERVES_MS)),
        (AUDITS.c.id, AUDITS.c.served_at < now_ms() - max(older_than_ms, _SERVES_MS)),
    ):
        keys = _free(connection, column, old)
        if keys:
            if column is ENTRIES.c.id:
                connection.execute(delete(USES).where(among(connection, USES.c.entry_id, keys)))
            connection.execute(delete(column.table).where(among(connection, column, keys)))
        more = more or len(keys) == _AT_ONCE
    token_quotas.expire(connection)
    return turns.forget(connection) or more


def _forget_jobs(connection: Connection, old: ColumnElement[bool]) -> bool:
    """Forget a bounded number of these jobs or units; whether there may be more.

    Not those of which, or of whose subject, an event was set aside: someone has yet to see to it, and will ask which
    job it is of; and when it is published after all, no unit is made a second time. Nor jobs with a unit that is open,
    nor those of a batch whose output does not hold them yet.
    """
    about = OUTBOX.c.key == func.coalesce(JOBS.c.subject, JOBS.c.id)
    untold = select(OUTBOX.c.id).where(about, text("outbox.set_aside_at IS NOT NULL")).exists()
    unit = JOBS.alias("unit")
    is_open = text("unit.state = 'active' AND unit.subject IS NOT NULL")
    followed = select(unit.c.id).where(unit.c.subject == JOBS.c.id, is_open).exists()
    jobs = _free(connection, JOBS.c.id, old & JOBS.c.batch.is_(None) & ~untold & ~followed)
    if jobs:
        verdicts.keep(connection, jobs)
        for column in (*_WITH_JOBS, JOBS.c.id):
            connection.execute(delete(column.table).where(among(connection, column, jobs)))
    return len(jobs) == _AT_ONCE


def _of_stages(names: Sequence[str]) -> ColumnElement[bool]:
    """Units of these stages."""
    step = select(STEPS.c.job_id).where(STEPS.c.job_id == JOBS.c.id, STEPS.c.stage.in_(names))
    return JOBS.c.subject.is_not(None) & step.exists()


def _last_changes() -> list[Any]:
    return [newest("entry"), newest("document")]


def _free(connection: Connection, column: Any, where: Any) -> list[Any]:
    """The keys of a bounded number of rows that nobody else holds, locked."""
    query = select(column).where(where).limit(_AT_ONCE)
    return list(connection.execute(query.with_for_update(skip_locked=True)).scalars())
