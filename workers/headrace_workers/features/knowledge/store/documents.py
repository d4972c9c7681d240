"""Documents of knowledge bases, by name, each with its chunks, and each change of one noted for followers.

A base exists while it has documents. A document changes whole and in one transaction, so that nobody sees half of it,
and `Hooks.on_documents_changed` tells the features whose rows rest on what it said before. Lock order: a document is
locked before its chunks and before rows that rest on it, and several in the order of their ids.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Select, and_, case, delete, func, or_, select, tuple_, update

from headrace_schemas.attributes import AttributeMap
from headrace_workers.core.ledger import change_feed
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.sql.database import among, insert, now_ms
from headrace_workers.features.knowledge.tables import CHUNKS, DOCUMENT, DOCUMENTS, STORES

NO_ATTRIBUTES: Final = "{}"

Version = tuple[int, str]  # a document's id, and its version


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A passage: `vector` is the float32 embedding of the text, `start` and `stop` are characters.

    `terms` are the words that find it (features/knowledge/terms.py); a reader counts them if they are missing.
    """

    key: str
    section: str
    start: int
    stop: int
    text: str
    vector: bytes
    terms: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A document as it is now. `size` is the file's, in bytes; `embedder` is the id of what made the vectors."""

    tenant: str
    knowledge: str
    name: str
    sha256: str
    format: str
    size: int
    embedder: str
    chunks: Sequence[NewChunk]
    attributes: AttributeMap = field(default_factory=dict)


class ChunkAt(NamedTuple):
    """A place in the order of chunks: by document, then as they stand in it."""

    document_id: int
    chunk_id: int


FIRST = ChunkAt(0, 0)


def version_of(sha256: str, attributes: str) -> str:
    """Return the version of a document: its file, and its attributes, as the ledger writes them.

    The version of a document without attributes is its file's SHA-256.
    """
    if attributes == NO_ATTRIBUTES:
        return sha256
    return hashlib.sha256(f"{sha256}\n{attributes}".encode()).hexdigest()


def hold(connection: Connection, document_ids: Collection[int]) -> set[Version]:
    """Lock these documents against change until this transaction ends; return the versions of the existing ones."""
    if not document_ids:
        return set()
    query = select(DOCUMENTS.c.id, DOCUMENTS.c.sha256, DOCUMENTS.c.attributes).where(
        among(connection, DOCUMENTS.c.id, sorted(document_ids))
    )
    rows = connection.execute(query.order_by(DOCUMENTS.c.id).with_for_update(read=True))
    return {(row.id, version_of(row.sha256, row.attributes)) for row in rows}


def ids_of(knowledge: str | None, name: str | None) -> Select[tuple[int]]:
    """Return a query of the ids of documents of this name, in bases of this name; None: of any."""
    query = select(DOCUMENTS.c.id)
    if knowledge is not None:
        query = query.where(DOCUMENTS.c.knowledge == knowledge)
    return query if name is None else query.where(DOCUMENTS.c.name == name)


def put(connection: Connection, document: NewDocument) -> int | None:
    """Write the document in the place of the one of its name; return its id.

    Return None, and write nothing, if that document comes from the same file and embedder and has the same attributes,
    even if another process has just written it.
    """
    attributes = written(document.attributes)
    values = {
        "sha256": document.sha256, "format": document.format, "size": document.size, "embedder": document.embedder,
        "chunks": len(document.chunks), "added_at": now_ms(), "attributes": attributes,
    }  # fmt: skip
    statement = insert(connection, DOCUMENTS).values(
        tenant=document.tenant, knowledge=document.knowledge, name=document.name, **values
    )
    other = or_(
        DOCUMENTS.c.sha256 != document.sha256,
        DOCUMENTS.c.embedder != document.embedder,
        DOCUMENTS.c.attributes != attributes,
    )
    # One that another embedder reads anew is no newer: it says what it said.
    same = and_(DOCUMENTS.c.sha256 == document.sha256, DOCUMENTS.c.attributes == attributes)
    values["added_at"] = case((same, DOCUMENTS.c.added_at), else_=now_ms())
    statement = statement.on_conflict_do_update(
        index_elements=[DOCUMENTS.c.tenant, DOCUMENTS.c.knowledge, DOCUMENTS.c.name], set_=values, where=other
    ).returning(DOCUMENTS.c.id)
    document_id: int | None = connection.execute(statement).scalar_one_or_none()
    if document_id is None:
        return None
    connection.execute(delete(CHUNKS).where(CHUNKS.c.document_id == document_id))
    rows = [
        {"document_id": document_id, "key": chunk.key, "section": chunk.section, "start": chunk.start,
         "stop": chunk.stop, "text": chunk.text, "vector": chunk.vector, "terms": chunk.terms}
        for chunk in document.chunks
    ]  # fmt: skip
    if rows:
        connection.execute(CHUNKS.insert(), rows)
    change_feed.note(connection, [document_id], DOCUMENT)
    _changed(connection, {document_id: f"{_state_text(document)} has changed"}, version_of(document.sha256, attributes))
    return document_id


def describe(connection: Connection, document_id: int, sha256: str, attributes: AttributeMap) -> bool:
    """Give the document these attributes and no others, if it still comes from this file; return True if any changed.

    Nothing may rest on it any more as it was before: a filter may have let it through by what it no longer has.
    """
    now = written(attributes)
    statement = (
        update(DOCUMENTS)
        .where(DOCUMENTS.c.id == document_id, DOCUMENTS.c.sha256 == sha256, DOCUMENTS.c.attributes != now)
        .values(attributes=now, added_at=now_ms())
        .returning(DOCUMENTS.c.name, DOCUMENTS.c.knowledge)
    )
    row = connection.execute(statement).first()
    if row is None:
        return False
    change_feed.note(connection, [document_id], DOCUMENT)
    _changed(connection, {document_id: f"{_state_text(row)} has other attributes"}, version_of(sha256, now))
    return True


def written(attributes: AttributeMap) -> str:
    """Return attributes as the ledger writes them: equal attributes are equal texts."""
    return json.dumps(dict(attributes), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def remove(connection: Connection, document_ids: Sequence[int]) -> int:
    """Forget these documents and their chunks; return how many there were."""
    if not document_ids:
        return 0
    query = select(DOCUMENTS.c.id, DOCUMENTS.c.name, DOCUMENTS.c.knowledge)
    query = query.where(among(connection, DOCUMENTS.c.id, document_ids)).order_by(DOCUMENTS.c.id)
    found = connection.execute(query.with_for_update()).all()
    if found:
        there = [row.id for row in found]
        connection.execute(delete(CHUNKS).where(among(connection, CHUNKS.c.document_id, there)))
        connection.execute(delete(DOCUMENTS).where(among(connection, DOCUMENTS.c.id, there)))
        change_feed.note(connection, there, DOCUMENT)
        _changed(connection, {row.id: f"{_state_text(row)} was removed" for row in found}, None)
    return len(found)


def _state_text(document: Any) -> str:
    return f"document {document.name} of knowledge base {document.knowledge}"


def _changed(connection: Connection, reasons: Mapping[int, str], version: str | None) -> None:
    for feature in hooks():
        feature.on_documents_changed(connection, reasons, version)


def documents(connection: Connection, tenant: str, knowledge: str, after: str, limit: int) -> list[Row[Any]]:
    """Return a base's documents whose names come after this one, in order of name: the columns of `documents`."""
    query = (
        select(DOCUMENTS)
        .where(DOCUMENTS.c.tenant == tenant, DOCUMENTS.c.knowledge == knowledge, DOCUMENTS.c.name > after)
        .order_by(DOCUMENTS.c.name)
        .limit(limit)
    )
    return list(connection.execute(query).all())


def exists(connection: Connection, tenant: str, knowledge: str) -> bool:
    """Return True if the tenant has a base of this name: one with a document, or a vector store that may be empty."""
    documents = select(DOCUMENTS.c.id).where(DOCUMENTS.c.tenant == tenant, DOCUMENTS.c.knowledge == knowledge)
    stores = select(STORES.c.name).where(STORES.c.tenant == tenant, STORES.c.knowledge == knowledge)
    return bool(connection.execute(select(or_(documents.exists(), stores.exists()))).scalar_one())


def unknown(connection: Connection, named: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the bases (tenant and name) that do not exist."""
    return {base for base in named if not exists(connection, *base)}


def bases(connection: Connection, tenant: str | None = None) -> list[Row[Any]]:
    """Return all bases, or a tenant's, in order of tenant and name.

    The columns: tenant, knowledge, documents, chunks, size (bytes), embedders (how many), embedder (one of them),
    changed_at (ms).
    """
    query = (
        select(
            DOCUMENTS.c.tenant,
            DOCUMENTS.c.knowledge,
            func.count().label("documents"),
            func.sum(DOCUMENTS.c.chunks).label("chunks"),
            func.sum(DOCUMENTS.c.size).label("size"),
            func.count(DOCUMENTS.c.embedder.distinct()).label("embedders"),
            func.min(DOCUMENTS.c.embedder).label("embedder"),
            func.max(DOCUMENTS.c.added_at).label("changed_at"),
        )
        .group_by(DOCUMENTS.c.tenant, DOCUMENTS.c.knowledge)
        .order_by(DOCUMENTS.c.tenant, DOCUMENTS.c.knowledge)
    )
    return list(connection.execute(query if tenant is None else query.where(DOCUMENTS.c.tenant == tenant)).all())


def chunks(
    connection: Connection, tenant: str, knowledge: str, after: ChunkAt, limit: int, document_id: int | None = None
) -> list[Row[Any]]:
    """Return the chunks of a base, or of one document of it, after a place, in order.

    The columns: id, document_id, document (its name), its sha256, embedder, attributes and added_at, key, section,
    start, stop, text, vector, terms.
    """
    query = (
        select(
            CHUNKS,
            DOCUMENTS.c.name.label("document"),
            DOCUMENTS.c.sha256,
            DOCUMENTS.c.embedder,
            DOCUMENTS.c.attributes,
            DOCUMENTS.c.added_at,
        )
        .join(DOCUMENTS, DOCUMENTS.c.id == CHUNKS.c.document_id)
        .where(
            DOCUMENTS.c.tenant == tenant,
            DOCUMENTS.c.knowledge == knowledge,
            tuple_(CHUNKS.c.document_id, CHUNKS.c.id) > tuple_(*after),
        )
        .order_by(CHUNKS.c.document_id, CHUNKS.c.id)
        .limit(limit)
    )
    if document_id is not None:
        query = query.where(CHUNKS.c.document_id == document_id)
    return list(connection.execute(query).all())
