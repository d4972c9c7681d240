"""The locks of a step's rows, taken before the first is written: all of a kind, in one order."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, select

from headrace_workers.core.ledger.hooks import hold_tenants
from headrace_workers.core.ledger.outcome import StepWrite
from headrace_workers.core.sql.database import among, locks_rows
from headrace_workers.features.cache.store import audit_rows, entries
from headrace_workers.features.cache.store.audit_rows import Audited, NewAudit
from headrace_workers.features.cache.store.entries import Admit, Disallow, Withdraw
from headrace_workers.features.cache.tables import ENTRIES, IS_LIVE, IS_PENDING


def hold(
    connection: Connection, rows: Sequence[StepWrite], making: Collection[str] = (), tenants: Collection[str] = ()
) -> None:
    """Lock the documents, the entries and the audits that these rows change or rest on, each in the order of their ids;
    and the answers that these jobs make, which end with them. Where an audit reserves for its call, lock what features
    keep of all `tenants` of the transaction, too: later it may need any of them.

    On SQLite nobody else writes meanwhile.
    """
    if not locks_rows(connection):
        return
    entries.hold_documents(connection, [used for row in rows if isinstance(row, Admit) for used in row.used])
    audited = [row.audit_id for row in rows if isinstance(row, Audited)]
    changed = {row.entry_id for row in rows if isinstance(row, Admit | Withdraw | Disallow)}
    changed |= _replaced(connection, [row for row in rows if isinstance(row, Admit)])
    changed |= audit_rows.served_in(connection, audited)
    changed |= _made(connection, making)
    if changed:
        query = select(ENTRIES.c.id).where(among(connection, ENTRIES.c.id, sorted(changed)))
        connection.execute(query.order_by(ENTRIES.c.id).with_for_update())
    if audited:
        audit_rows.locked(connection, audit_rows.are(connection, audited))
    if asked := {row.tenant for row in rows if isinstance(row, NewAudit) and row.afresh is not None}:
        hold_tenants(connection, asked.union(tenants))


def _replaced(connection: Connection, admitted: Sequence[Admit]) -> set[int]:
    """Return the answers in whose place these come."""
    if not admitted:
        return set()
    new = ENTRIES.alias("new")
    query = select(ENTRIES.c.id).join(new, new.c.key == ENTRIES.c.key)
    ids = sorted(row.entry_id for row in admitted)
    replaced = set(connection.execute(query.where(IS_LIVE, among(connection, new.c.id, ids))).scalars())
    if keys := sorted(row.place.key for row in admitted if row.place is not None):
        moved = select(ENTRIES.c.id).where(IS_LIVE, among(connection, ENTRIES.c.key, keys))
        replaced |= set(connection.execute(moved).scalars())
    return replaced


def _made(connection: Connection, jobs: Collection[str]) -> set[int]:
    """Return the answers that these jobs are making."""
    if not jobs:
        return set()
    query = select(ENTRIES.c.id).where(IS_PENDING, among(connection, ENTRIES.c.job_id, sorted(jobs)))
    return set(connection.execute(query).scalars())
