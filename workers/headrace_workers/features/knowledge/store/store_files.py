"""Vector stores and their files: on their way into a store, as documents of its base, and what became of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, and_, cast, delete, func, or_, select, update

from headrace_schemas.attributes import AttributeMap
from headrace_schemas.grounding import FILE_DOCUMENT
from headrace_workers.core.sql.database import among, insert, now_ms
from headrace_workers.core.sql.paging import Part, by_bytes
from headrace_workers.features.knowledge.store import documents
from headrace_workers.features.knowledge.store.documents import NewDocument, written
from headrace_workers.features.knowledge.tables import CHUNKS, DOCUMENTS, FILE_BATCHES, INCOMING, STORES

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


def create_store(
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


def change_store(connection: Connection, tenant: str, knowledge: str, values: Mapping[str, Any]) -> bool:
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
    return [_store(item, there.get(item), held.get(item), coming) for item in {**there, **held}]


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


def remove_store(connection: Connection, tenant: str, knowledge: str) -> bool:
    """Forget a store and the files on their way into it; return True if it was there. Its documents go before."""
    where = (INCOMING.c.tenant == tenant, INCOMING.c.knowledge == knowledge)
    connection.execute(delete(INCOMING).where(*where))
    connection.execute(
        delete(FILE_BATCHES).where(FILE_BATCHES.c.tenant == tenant, FILE_BATCHES.c.knowledge == knowledge)
    )
    gone = delete(STORES).where(STORES.c.tenant == tenant, STORES.c.knowledge == knowledge).returning(STORES.c.name)
    return connection.execute(gone).first() is not None


def expire_stores(connection: Connection, limit: int) -> int:
    """Remove documents of stores that nobody used for their time to expire, a bounded number; return how many."""
    late = and_(
        STORES.c.expire_days.is_not(None),
        STORES.c.expired_at.is_(None),
        STORES.c.used_at + cast(STORES.c.expire_days, BigInteger) * _A_DAY_MS <= now_ms(),  # 25 days in ms are a bigint
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


_OTHER: Final = "document-"
_MOST_TRIES: Final = 3
_LATER_MS: Final = 5_000
_PASSAGES: Final = 1_000  # that are read at once
State = Literal["completed", "in_progress", "failed"]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file that is to become a document of a base."""

    file_id: str
    name: str
    attributes: AttributeMap


@dataclass(frozen=True, slots=True)
class StoreFile:
    """A file of a store, whether it is a document already or not. Times are ms; `size` is in bytes."""

    id: str
    name: str
    state: State
    created_at: int
    attributes: AttributeMap
    size: int = 0
    document_id: int | None = None
    code: str | None = None
    reason: str | None = None


def document_name(file_id: str, name: str) -> str:
    """Return the name of a file's document."""
    return f"{file_id}/{name}"


def file_of(document: str, document_id: int) -> tuple[str, str]:
    """Return the id and the name of a document's file."""
    match = FILE_DOCUMENT.fullmatch(document)
    return (match[1], match[2]) if match else (f"{_OTHER}{document_id}", document)


def send(
    connection: Connection, tenant: str, knowledge: str, files: Sequence[Incoming], *, batched: bool = False
) -> None:
    """Let files become documents of a base.

    A file that failed before is read again. A file that is a document already gets these attributes, since what is in a
    file never changes. `batched`: for a batch, which may be cancelled.
    """
    for file in files:
        wanted = _document(tenant, knowledge, file.file_id)
        there = None if wanted is None else connection.execute(select(DOCUMENTS).where(wanted).limit(1)).first()
        if there is not None:
            documents.describe(connection, there.id, there.sha256, file.attributes)
            continue
        values = {"name": file.name, "attributes": written(file.attributes), "state": "in_progress", "code": None,
                  "reason": None, "created_at": now_ms(), "tries": 0, "taken_until": 0}  # fmt: skip
        statement = insert(connection, INCOMING).values(
            tenant=tenant, knowledge=knowledge, file_id=file.file_id, stays=not batched, **values
        )
        columns = [INCOMING.c.tenant, INCOMING.c.knowledge, INCOMING.c.file_id]
        changed = values if batched else {**values, "stays": True}
        connection.execute(statement.on_conflict_do_update(index_elements=columns, set_=changed))
    used(connection, tenant, knowledge)


def take(connection: Connection, tenant: str, lease_ms: int) -> Row[Any] | None:
    """Lease the tenant's next file for `lease_ms`: the columns of `incoming`; None if no file waits.

    A file whose readers died of it too often fails.
    """
    query = (
        select(INCOMING)
        .where(INCOMING.c.tenant == tenant, *_waits())
        .order_by(INCOMING.c.taken_until, INCOMING.c.id)
        .limit(1)
    )
    row = connection.execute(query.with_for_update(skip_locked=True)).first()
    if row is None:
        return None
    if row.tries >= _MOST_TRIES:
        fail(connection, row.id, row.tries, "server_error", f"whoever read it died of it {row.tries} times")
        return take(connection, tenant, lease_ms)
    taken = {"tries": row.tries + 1, "taken_until": now_ms() + lease_ms}
    statement = update(INCOMING).where(INCOMING.c.id == row.id).values(taken).returning(*INCOMING.c)
    return connection.execute(statement).first()


def arrived(connection: Connection, row_id: int, tries: int, document: NewDocument) -> bool:
    """Make a file that was taken a document; return False if it is no longer wanted, or was taken by another."""
    gone = delete(INCOMING).where(INCOMING.c.id == row_id, INCOMING.c.tries == tries).returning(INCOMING.c.id)
    if connection.execute(gone).first() is None:
        return False
    documents.put(connection, document)
    return True


def give_back(connection: Connection, row_id: int, tries: int) -> None:
    """Give back a file that was taken and could not be read for now; it counts as no try."""
    connection.execute(
        update(INCOMING)
        .where(INCOMING.c.id == row_id, INCOMING.c.tries == tries)
        .values(tries=tries - 1, taken_until=now_ms() + _LATER_MS)
    )


def fail(connection: Connection, row_id: int, tries: int, code: str, reason: str) -> None:
    """Write that a file that was taken cannot become a document, and why."""
    connection.execute(
        update(INCOMING)
        .where(INCOMING.c.id == row_id, INCOMING.c.tries == tries)
        .values(state="failed", code=code, reason=reason[:2_000])
    )


def file(connection: Connection, tenant: str, knowledge: str, file_id: str) -> StoreFile | None:
    """Return a file of a store; None if there is none of this id."""
    query = select(INCOMING).where(
        INCOMING.c.tenant == tenant, INCOMING.c.knowledge == knowledge, INCOMING.c.file_id == file_id
    )
    row = connection.execute(query).first()
    if row is not None:
        return _coming(row)
    wanted = _document(tenant, knowledge, file_id)
    row = None if wanted is None else connection.execute(select(DOCUMENTS).where(wanted).limit(1)).first()
    return None if row is None else _there(row)


def named(connection: Connection, tenant: str, knowledge: str, names: Mapping[str, str]) -> list[StoreFile]:
    """Return the files (the name of each by its id) that are in a store, in order of their time."""
    coming = select(INCOMING).where(
        INCOMING.c.tenant == tenant,
        INCOMING.c.knowledge == knowledge,
        among(connection, INCOMING.c.file_id, list(names)),
    )
    documents_of = [document_name(file_id, name) for file_id, name in names.items()]
    there = select(DOCUMENTS).where(
        DOCUMENTS.c.tenant == tenant,
        DOCUMENTS.c.knowledge == knowledge,
        among(connection, DOCUMENTS.c.name, documents_of),
    )
    store_files = [_coming(row) for row in connection.execute(coming)]
    return sorted([*store_files, *(_there(row) for row in connection.execute(there))], key=_order)


def describe(connection: Connection, tenant: str, knowledge: str, file_id: str, attributes: AttributeMap) -> bool:
    """Give a file of a store these attributes and no others; return True if it was there."""
    mine = (INCOMING.c.tenant == tenant, INCOMING.c.knowledge == knowledge, INCOMING.c.file_id == file_id)
    statement = update(INCOMING).where(*mine).values(attributes=written(attributes)).returning(INCOMING.c.id)
    if connection.execute(statement).first() is not None:
        return True
    wanted = _document(tenant, knowledge, file_id)
    row = None if wanted is None else connection.execute(select(DOCUMENTS).where(wanted).limit(1)).first()
    if row is None:
        return False
    documents.describe(connection, row.id, row.sha256, attributes)
    return True


def texts(connection: Connection, document_id: int, after: int = 0) -> Part:
    """Return the next of a document's passages after this one, in order: id, text."""
    query = select(CHUNKS.c.id, CHUNKS.c.text).where(CHUNKS.c.document_id == document_id)
    return by_bytes(connection, query, (CHUNKS.c.id,), (after,), _PASSAGES, newest=False, large=(CHUNKS.c.text,))


def waiting_tenants(connection: Connection, limit: int) -> list[str]:
    """Return tenants with files that wait to be read, `limit` at most, those with the oldest files first."""
    query = select(INCOMING.c.tenant).where(*_waits()).group_by(INCOMING.c.tenant).order_by(func.min(INCOMING.c.id))
    return list(connection.execute(query.limit(limit)).scalars())


def are_open(connection: Connection) -> bool:
    """Return True if any file is in progress: it waits, is being read, or is to be tried again later."""
    found = select(INCOMING.c.id).where(INCOMING.c.state == "in_progress")
    return bool(connection.execute(select(found.exists())).scalar_one())


def _waits() -> tuple[ColumnElement[bool], ...]:
    return INCOMING.c.state == "in_progress", INCOMING.c.taken_until < now_ms()


def remove_file(connection: Connection, tenant: str, knowledge: str, file_id: str) -> bool:
    """Take a file out of a store, whether it is a document already or not; return True if it was there."""
    mine = (INCOMING.c.tenant == tenant, INCOMING.c.knowledge == knowledge, INCOMING.c.file_id == file_id)
    coming = connection.execute(delete(INCOMING).where(*mine).returning(INCOMING.c.id)).first()
    wanted = _document(tenant, knowledge, file_id)
    ids = [] if wanted is None else list(connection.execute(select(DOCUMENTS.c.id).where(wanted)).scalars())
    return bool(documents.remove(connection, ids)) or coming is not None


def files(
    connection: Connection,
    tenant: str,
    knowledge: str,
    *,
    after: StoreFile | None = None,
    limit: int,
    newest_first: bool = False,
    state: State | None = None,
) -> list[StoreFile]:
    """Return files of a store in order of their time, those after `after`."""
    store_files: list[StoreFile] = []
    if state in {None, "completed"}:
        base = (DOCUMENTS.c.tenant == tenant, DOCUMENTS.c.knowledge == knowledge)
        place = None if after is None else after.document_id or 2**62
        query = select(DOCUMENTS).where(*base).limit(limit)
        columns = (DOCUMENTS.c.added_at, DOCUMENTS.c.id)
        store_files += [
            _there(row) for row in connection.execute(_behind(query, columns, after, place, newest_first=newest_first))
        ]
    if state != "completed":
        mine = (INCOMING.c.tenant == tenant, INCOMING.c.knowledge == knowledge)
        query = select(INCOMING).where(*mine).limit(limit)
        if state is not None:
            query = query.where(INCOMING.c.state == state)
        # At the same moment, pending files stand after documents.
        text = None if after is None else after.id if after.document_id is None else ""
        columns_of = (INCOMING.c.created_at, INCOMING.c.file_id)
        store_files += [
            _coming(row)
            for row in connection.execute(_behind(query, columns_of, after, text, newest_first=newest_first))
        ]
    return sorted(store_files, key=_order, reverse=newest_first)[:limit]


def _order(file: StoreFile) -> tuple[int, bool, int, str]:
    return file.created_at, file.document_id is None, file.document_id or 0, file.id


def _behind(query: Any, columns: tuple[Any, Any], after: StoreFile | None, place: Any, *, newest_first: bool) -> Any:
    time, tie = columns
    if after is not None:
        later = time < after.created_at if newest_first else time > after.created_at
        tied = tie < place if newest_first else tie > place
        query = query.where(or_(later, and_(time == after.created_at, tied)))
    return query.order_by(time.desc(), tie.desc()) if newest_first else query.order_by(time, tie)


def _document(tenant: str, knowledge: str, file_id: str) -> ColumnElement[bool] | None:
    """Return the condition on a file's document; None for what cannot be a file's id."""
    base = and_(DOCUMENTS.c.tenant == tenant, DOCUMENTS.c.knowledge == knowledge)
    if file_id.startswith(_OTHER):
        number = file_id.removeprefix(_OTHER)
        is_number = number.isascii() and number.isdigit() and len(number) < 19
        return and_(base, DOCUMENTS.c.id == int(number)) if is_number else None
    if not FILE_DOCUMENT.fullmatch(f"{file_id}/x"):
        return None
    return and_(base, DOCUMENTS.c.name.startswith(f"{file_id}/", autoescape=True))


def _there(row: Any) -> StoreFile:
    file_id, name = file_of(row.name, row.id)
    return StoreFile(
        id=file_id, name=name, state="completed", created_at=row.added_at, attributes=json.loads(row.attributes),
        size=row.size, document_id=row.id,
    )  # fmt: skip


def _coming(row: Any) -> StoreFile:
    return StoreFile(
        id=row.file_id, name=row.name, state=row.state, created_at=row.created_at,
        attributes=json.loads(row.attributes), code=row.code, reason=row.reason,
    )  # fmt: skip
