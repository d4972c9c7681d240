"""The documents that an answer rests on: when one of them changes or goes, the answer dies.

Lock order: documents, in the order of their ids, before entries. The transaction that admits an answer holds its
documents until the answer is written. So a change of one of them comes before that, and is seen; or it comes after, and
finds the answer.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from headrace_workers.core.sql.database import among
from headrace_workers.features.cache.tables import ENTRIES, IS_LIVE, USES
from headrace_workers.features.knowledge.store import documents
from headrace_workers.features.knowledge.store.documents import Version


def hold(connection: Connection, used: Iterable[Version]) -> set[Version]:
    """Let none of these documents change until this transaction ends; return what they are now."""
    return documents.hold(connection, {document_id for document_id, _ in used})


def still(connection: Connection, used: Collection[Version]) -> bool:
    """Return True if all these documents are as they were, and let none change until this transaction ends."""
    return hold(connection, used) >= set(used)


def write(connection: Connection, entry_id: int, used: Collection[Version]) -> None:
    """Write what an answer rests on."""
    if used:
        rows = [
            {"entry_id": entry_id, "document_id": document_id, "sha256": version} for document_id, version in set(used)
        ]
        connection.execute(USES.insert(), rows)


def of(connection: Connection, entry_ids: Sequence[int]) -> dict[int, set[Version]]:
    """Return what each of these answers rests on; answers that rest on nothing are left out."""
    found: dict[int, set[Version]] = {}
    for row in connection.execute(select(USES).where(among(connection, USES.c.entry_id, sorted(entry_ids)))):
        found.setdefault(row.entry_id, set()).add((row.document_id, row.sha256))
    return found


def resting(connection: Connection, document_ids: Sequence[int], but: str | None, limit: int) -> list[Row[Any]]:
    """Return, and lock, live answers that rest on these documents in another version than `but`: entry_id and
    document_id, in order of the entries.
    """
    query = (
        select(USES.c.entry_id, USES.c.document_id)
        .join(ENTRIES, ENTRIES.c.id == USES.c.entry_id)
        .where(IS_LIVE, among(connection, USES.c.document_id, document_ids))
        .order_by(USES.c.entry_id)
        .limit(limit)
    )
    if but is not None:
        query = query.where(USES.c.sha256 != but)
    return list(connection.execute(query.with_for_update(of=ENTRIES)))
