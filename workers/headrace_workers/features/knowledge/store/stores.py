"""Vector stores: knowledge bases as OpenAI's API has them. A store's id is its base's name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, delete, func, select, update

from headrace_workers.core.sql.database import insert, now_ms
from headrace_workers.features.knowledge.store import documents
from headrace_workers.features.knowledge.tables import DOCUMENTS, FILE_BATCHES, INCOMING, STORES

_A_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Store:
    """A vector store. Times are ms; `size` is in bytes. `expires_at` is when its documents go, or went."""

    id: str
    name: str
    description: str | None
    metadata: Mapping[str, str]
    created_at: int
    used_at: int
    expire_days: int | None
    expires_at: int | None
    expired: bool
    documents: int
    size: int
    coming: int
    failed: int


def create(
    connection: Connection,
    tenant: str,
    knowledge: str,
    *,
    name: str,
    description: str | None,
    metadata: Mapping[str, str],
    expire_days: int | None,
) -> None:
    """Create a store."""
    connection.execute(
        STORES.insert().values(
            tenant=tenant, knowledge=knowledge, name=name, description=description, metadata=json.dumps(dict(metadata)),
            expire_days=expire_days, created_at=now_ms(), used_at=now_ms(),
        )
    )  # fmt: skip


def change(connection: Connection, tenant: str, knowledge: str, values: Mapping[str, Any]) -> bool:
    """Change these values of a store: `name`, `metadata`, `expire_days`; return True if there is such a store."""
    found = store(connection, tenant, knowledge)
    if found is None:
        return False
    changed = {**values, "metadata": json.dumps(dict(values["metadata"]))} if "metadata" in values else dict(values)
    row = {
        "tenant": tenant, "knowledge": knowledge, "name": found.name, "created_at": found.created_at,
        "used_at": now_ms(), **changed,
    }  # fmt: skip
    statement = insert(connection, STORES).values(row)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[STORES.c.tenant, STORES.c.knowledge], set_={"used_at": now_ms(), **changed}
        )
    )
    return True


def store(connection: Connection, tenant: str, knowledge: str) -> Store | None:
    """Return a tenant's store of this id; None if there is none."""
    return next(iter(_stores(connection, tenant, knowledge)), None)


def stores(connection: Connection, tenant: str) -> list[Store]:
    """Return all stores of a tenant, oldest first."""
    return sorted(_stores(connection, tenant, None), key=lambda each: (each.created_at, each.id))


def _stores(connection: Connection, tenant: str, knowledge: str | None) -> list[Store]:
    def of(table: Any) -> ColumnElement[bool]:
        return table.c.tenant == tenant if knowledge is None else and_(
            table.c.tenant == tenant, table.c.knowledge == knowledge
        )  # fmt: skip

    there = {row.knowledge: row for row in connection.execute(select(STORES).where(of(STORES)))}
    held = {
        row.knowledge: row
        for row in connection.execute(
            select(
                DOCUMENTS.c.knowledge,
                func.count().label("documents"),
                func.sum(DOCUMENTS.c.size).label("size"),
                func.min(DOCUMENTS.c.added_at).label("first"),
                func.max(DOCUMENTS.c.added_at).label("last"),
            )
            .where(of(DOCUMENTS))
            .group_by(DOCUMENTS.c.knowledge)
        )
    }
    coming: dict[tuple[str, str], int] = {
        (row.knowledge, row.state): row.files
        for row in connection.execute(
            select(INCOMING.c.knowledge, INCOMING.c.state, func.count().label("files"))
            .where(of(INCOMING))
            .group_by(INCOMING.c.knowledge, INCOMING.c.state)
        )
    }
    return [_store(each, there.get(each), held.get(each), coming) for each in {**there, **held}]


def _store(knowledge: str, row: Any, held: Any, coming: Mapping[tuple[str, str], int]) -> Store:
    used_at = row.used_at if row is not None else held.last
    days = None if row is None else row.expire_days
    expired = row is not None and row.expired_at is not None
    until = row.expired_at if expired else None if days is None else used_at + days * _A_DAY_MS
    return Store(
        id=knowledge,
        name=knowledge if row is None else row.name,
        description=None if row is None else row.description,
        metadata={} if row is None else json.loads(row.metadata),
        created_at=held.first if row is None else row.created_at,
        used_at=used_at,
        expire_days=days,
        expires_at=until,
        expired=expired,
        documents=0 if held is None else held.documents,
        size=0 if held is None else int(held.size),
        coming=coming.get((knowledge, "in_progress"), 0),
        failed=coming.get((knowledge, "failed"), 0),
    )


def used(connection: Connection, tenant: str, knowledge: str) -> None:
    """Note that a store is used at this moment: it expires so much later. One that has expired stays so."""
    connection.execute(
        update(STORES)
        .where(STORES.c.tenant == tenant, STORES.c.knowledge == knowledge, STORES.c.expired_at.is_(None))
        .values(used_at=now_ms())
    )


def remove(connection: Connection, tenant: str, knowledge: str) -> bool:
    """Forget a store and the files on their way into it; return True if it was there. Its documents go before."""
    where = (INCOMING.c.tenant == tenant, INCOMING.c.knowledge == knowledge)
    connection.execute(delete(INCOMING).where(*where))
    connection.execute(
        delete(FILE_BATCHES).where(FILE_BATCHES.c.tenant == tenant, FILE_BATCHES.c.knowledge == knowledge)
    )
    gone = delete(STORES).where(STORES.c.tenant == tenant, STORES.c.knowledge == knowledge).returning(STORES.c.name)
    return connection.execute(gone).first() is not None


def expire(connection: Connection, limit: int) -> int:
    """Remove documents of stores that nobody used for their time to expire, a bounded number; return how many."""
    late = and_(
        STORES.c.expire_days.is_not(None),
        STORES.c.expired_at.is_(None),
        STORES.c.used_at + STORES.c.expire_days * _A_DAY_MS <= now_ms(),
    )
    connection.execute(update(STORES).where(late).values(expired_at=now_ms()))
    query = (
        select(DOCUMENTS.c.id)
        .join(STORES, and_(STORES.c.tenant == DOCUMENTS.c.tenant, STORES.c.knowledge == DOCUMENTS.c.knowledge))
        .where(STORES.c.expired_at.is_not(None))
        .order_by(DOCUMENTS.c.id)
        .limit(limit)
    )
    return documents.remove(connection, list(connection.execute(query).scalars()))
