"""Removal of live answers, and deletion of answers that died long ago: a bounded number a transaction."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, delete, func, select

from headrace_workers.core.sql.database import among, now_ms
from headrace_workers.core.sql.delete_some import AT_ONCE, delete_some, lock_some
from headrace_workers.features.cache.audit_tables import AUDITS
from headrace_workers.features.cache.store import audit_rows, entries
from headrace_workers.features.cache.tables import ENTRIES, IS_LIVE, SERVES, USES
from headrace_workers.features.knowledge.store import documents

_SERVES_MS: Final = 90 * 86_400_000  # a wrong answer is traced further back than jobs are remembered
EXACT: Final = "exact"  # in the place of a scope: answers that only the very same request is given


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """Filter of kept answers. An absent condition holds for all.

    `scope` is the beginning of a scope, or `EXACT`. `knowledge` and `document` name the base and the document that an
    answer rests on. `made_before` is in ms since 1970.
    """

    made_before: int
    tenant: str | None = None
    scope: str | None = None
    knowledge: str | None = None
    document: str | None = None
    ids: tuple[int, ...] | None = None


def count(connection: Connection, wanted: EntryFilter) -> int:
    """Return how many answers `purge` would put away."""
    query = select(func.count()).select_from(ENTRIES).where(*_conditions(connection, wanted))
    return int(connection.execute(query).scalar_one())


def purge(connection: Connection, wanted: EntryFilter, after: int, reason: str) -> tuple[int, int | None]:
    """Put away the first of these with ids above `after`; return how many, and the next call's `after`, if any."""
    query = (
        select(ENTRIES.c.id)
        .where(*_conditions(connection, wanted), ENTRIES.c.id > after)
        .order_by(ENTRIES.c.id)
        .limit(AT_ONCE)
    )
    found = list(connection.execute(query.with_for_update()).scalars())
    audit_rows.forget(connection, found)
    return entries.kill(connection, found, reason), found[-1] if len(found) == AT_ONCE else None


def forget(connection: Connection, older_than_ms: int) -> bool:
    """Forget a bounded number of answers that died so long ago, of old servings, and of old audits.

    Return True if there may be more.
    """
    dead = lock_some(connection, ENTRIES.c.id, ENTRIES.c.died_at < now_ms() - older_than_ms)
    if dead:
        connection.execute(delete(USES).where(among(connection, USES.c.entry_id, dead)))
        connection.execute(delete(ENTRIES).where(among(connection, ENTRIES.c.id, dead)))
    before = now_ms() - max(older_than_ms, _SERVES_MS)
    more = delete_some(connection, SERVES.c.id, SERVES.c.served_at < before)
    more |= delete_some(connection, AUDITS.c.id, AUDITS.c.served_at < before)
    return more or len(dead) == AT_ONCE


def _conditions(connection: Connection, wanted: EntryFilter) -> list[Any]:
    conditions: list[ColumnElement[bool] | Any] = [IS_LIVE, ENTRIES.c.made_at < wanted.made_before]
    if wanted.tenant is not None:
        conditions.append(ENTRIES.c.tenant == wanted.tenant)
    if wanted.scope is not None:
        scope = ENTRIES.c.scope
        conditions.append(scope == "" if wanted.scope == EXACT else scope.startswith(wanted.scope, autoescape=True))
    if wanted.knowledge is not None or wanted.document is not None:
        named = documents.ids_of(wanted.knowledge, wanted.document)
        conditions.append(ENTRIES.c.id.in_(select(USES.c.entry_id).where(USES.c.document_id.in_(named))))
    if wanted.ids is not None:
        conditions.append(among(connection, ENTRIES.c.id, list(wanted.ids)))
    return conditions
