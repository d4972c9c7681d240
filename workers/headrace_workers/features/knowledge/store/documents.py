"""Documents of knowledge bases, as the ledger keeps them: written and removed, followed by workers, and
how much their bases are used.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Select, and_, case, delete, func, or_, select, tuple_, update

from headrace_schemas.attributes import AttributeMap
from headrace_workers.core.fields import columns
from headrace_workers.core.ledger import change_feed
from headrace_workers.core.sql.database import among, clock, insert, now_ms, reading
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.core.tables import CHANGES
from headrace_workers.features.knowledge.feature import DOCUMENTS_CHANGED
from headrace_workers.features.knowledge.tables import BASE_USES, CHUNKS, DOCUMENT, DOCUMENTS, STORES

_DAY_MS: Final = 86_400_000
_LATELY_MS: Final = 7 * _DAY_MS


class LatelyUsed(NamedTuple):
    """A base that was asked or filled in the last week, and how many passages it has."""

    tenant: str
    knowledge: str
    passages: int


def count_questions(connection: Connection, counts: Mapping[tuple[str, str], int]) -> None:
    """Add the number of questions to each base, by tenant and name. Questions of earlier days count half."""
    now = clock(connection)
    for (tenant, knowledge), questions in sorted(counts.items()):  # in one order, since others count beside us
        new = insert(connection, BASE_USES).values(
            tenant=tenant, knowledge=knowledge, questions=questions, asked_at=now
        )
        before = case(
            (BASE_USES.c.asked_at < now - now % _DAY_MS, BASE_USES.c.questions / 2), else_=BASE_USES.c.questions
        )
        connection.execute(
            new.on_conflict_do_update(
                index_elements=["tenant", "knowledge"], set_={"questions": before + questions, "asked_at": now}
            )
        )


def lately_used(connection: Connection, limit: int) -> list[LatelyUsed]:
    """Return the bases that were asked or filled in the last week: those asked most first, then the newest."""
    since = now_ms() - _LATELY_MS
    ours = and_(BASE_USES.c.tenant == DOCUMENTS.c.tenant, BASE_USES.c.knowledge == DOCUMENTS.c.knowledge)
    asked_at, filled_at = func.max(BASE_USES.c.asked_at), func.max(DOCUMENTS.c.added_at)
    passages = func.sum(DOCUMENTS.c.chunks)
    query = (
        select(DOCUMENTS.c.tenant, DOCUMENTS.c.knowledge, passages.label("passages"))
        .select_from(DOCUMENTS.outerjoin(BASE_USES, ours))
        .group_by(DOCUMENTS.c.tenant, DOCUMENTS.c.knowledge)
        .having(and_(passages > 0, or_(asked_at > since, filled_at > since)))
        .order_by(func.coalesce(func.max(BASE_USES.c.questions), 0.0).desc(), filled_at.desc())
        .limit(limit)
    )
    return [LatelyUsed(row.tenant, row.knowledge, int(row.passages)) for row in connection.execute(query)]


def forget_uses(connection: Connection, _older_than_ms: int) -> bool:
    """Forget the counts of bases that nobody asked in the last week; return False, since none is left."""
    connection.execute(delete(BASE_USES).where(BASE_USES.c.asked_at <= now_ms() - _LATELY_MS))
    return False


class DocumentChange(NamedTuple):
    """A document as it is now, and whose; without a tenant it is no more."""

    mark: change_feed.Mark
    document_id: int
    tenant: str | None
    knowledge: str | None

    @property
    def position(self) -> change_feed.Position:
        """Return the follower's position."""
        return self.mark.position


def follow_documents(connection: Connection, after: change_feed.Position, limit: int) -> list[DocumentChange]:
    """Return the changes of documents after a position, in order, each with whose the document is now."""
    columns, where = (DOCUMENTS.c.tenant, DOCUMENTS.c.knowledge), DOCUMENTS.c.id == CHANGES.c.subject
    rows = change_feed.follow(connection, DOCUMENT, after, limit, columns, where)
    return [DocumentChange(mark, mark.subject, row.tenant, row.knowledge) for mark, row in rows]


NO_ATTRIBUTES: Final = "{}"

Version = tuple[int, str]  # a document's id, and its version


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A passage: `vector` is the float32 embedding of the text, `start` and `stop` are characters.

    `terms` are the words that find it (features/knowledge/lexical.py); a reader counts them if they are missing.
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
    if rows := [columns(CHUNKS, chunk, document_id=document_id) for chunk in document.chunks]:
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
    rows = connection.execute(query.with_for_update()).all()
    if rows:
        there = [row.id for row in rows]
        connection.execute(delete(CHUNKS).where(among(connection, CHUNKS.c.document_id, there)))
        connection.execute(delete(DOCUMENTS).where(among(connection, DOCUMENTS.c.id, there)))
        change_feed.note(connection, there, DOCUMENT)
        _changed(connection, {row.id: f"{_state_text(row)} was removed" for row in rows}, None)
    return len(rows)


def _state_text(document: Any) -> str:
    return f"document {document.name} of knowledge base {document.knowledge}"


def _changed(connection: Connection, reasons: Mapping[int, str], version: str | None) -> None:
    for tell in DOCUMENTS_CHANGED.values():
        tell(connection, reasons, version)


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


def texts(connection: Connection, tenant: str, knowledge: str, keys: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of the passages that are still in a base, by their keys. `keys` has the document of each key."""
    query = (
        select(CHUNKS.c.key, CHUNKS.c.text, DOCUMENTS.c.name)
        .join(DOCUMENTS, DOCUMENTS.c.id == CHUNKS.c.document_id)
        .where(DOCUMENTS.c.tenant == tenant, DOCUMENTS.c.knowledge == knowledge)
        .where(
            among(connection, DOCUMENTS.c.name, sorted(set(keys.values()))), among(connection, CHUNKS.c.key, [*keys])
        )
    )
    return {row.key: row.text for row in connection.execute(query) if keys[row.key] == row.name}


class KnowledgeBases(LedgerStore):
    """The knowledge bases of one ledger. Thread-safe. Unavailable when the database does not answer."""

    put = durable(put)
    describe = durable(describe)
    remove = durable(remove)
    exists = reads(exists)
    unknown = reads(unknown)
    bases = reads(bases)
    chunks = reads(chunks)
    texts = reads(texts)

    asked = durable(count_questions)
    lately_used = reads(lately_used)

    changed = reads(follow_documents)

    def mark(self, up_to: change_feed.Position) -> change_feed.Mark | None:
        """Return the last change of a document up to a position; None if there is none."""
        with reading(self._engine) as tx:
            return change_feed.mark(tx, up_to, DOCUMENT)

    def stands(self, mark: change_feed.Mark) -> bool:
        """Return True if a follower may go on from this change: see `change_feed.stands`."""
        with reading(self._engine) as tx:
            return change_feed.stands(tx, mark, DOCUMENT)

    documents = reads(documents)
