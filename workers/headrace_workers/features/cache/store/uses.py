"""Which documents an answer rests on: one that changes, or goes, takes the answers with it.

Lock order: documents, in the order of their ids, before entries. Whoever admits an answer holds its documents until it
is written. So whoever changes one of them comes before that, and is seen; or comes after it, and sees the answer.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from headrace_workers.core.sql.database import among
from headrace_workers.features.cache.tables import ENTRIES, IS_LIVE, USES
from headrace_workers.features.knowledge.tables import DOCUMENTS

Used = tuple[int, str]  # a document's id, and its version

NO_ATTRIBUTES: Final = "{}"


def version_of(sha256: str, attributes: str) -> str:
    """What answers rest on of a document: its file, and what is known of it beside, as the ledger writes that.

    That of a document without attributes is its file's SHA-256.
    """
    if attributes == NO_ATTRIBUTES:
        return sha256
    return hashlib.sha256(f"{sha256}\n{attributes}".encode()).hexdigest()


def hold(connection: Connection, used: Iterable[Used]) -> set[Used]:
    """Let none of these documents change until this transaction ends; what they are now, those that are there."""
    wanted = sorted({document_id for document_id, _ in used})
    if not wanted:
        return set()
    query = select(DOCUMENTS.c.id, DOCUMENTS.c.sha256, DOCUMENTS.c.attributes).where(
        among(connection, DOCUMENTS.c.id, wanted)
    )
    query = query.order_by(DOCUMENTS.c.id)
    rows = connection.execute(query.with_for_update(read=True))
    return {(row.id, version_of(row.sha256, row.attributes)) for row in rows}


def still(connection: Connection, used: Collection[Used]) -> bool:
    """Whether all of these documents are as they were, and will be until this transaction ends."""
    return hold(connection, used) >= set(used)


def write(connection: Connection, entry_id: int, used: Collection[Used]) -> None:
    """Note what an answer rests on."""
    if used:
        rows = [
            {"entry_id": entry_id, "document_id": document_id, "sha256": version} for document_id, version in set(used)
        ]
        connection.execute(USES.insert(), rows)


def of(connection: Connection, entry_ids: Sequence[int]) -> dict[int, set[Used]]:
    """What each of these answers rests on; those that rest on nothing are not named."""
    found: dict[int, set[Used]] = {}
    for row in connection.execute(select(USES).where(among(connection, USES.c.entry_id, sorted(entry_ids)))):
        found.setdefault(row.entry_id, set()).add((row.document_id, row.sha256))
    return found


def resting(connection: Connection, document_ids: Sequence[int], but: str | None, limit: int) -> list[Row[Any]]:
    """Answers that are given and rest on these documents, but for those that do on the version `but`, locked:
    entry_id and document_id, in order of the entries."""
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
