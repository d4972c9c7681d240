"""Files as rows: whose they are, how large, and of which objects of the file store they consist."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Exists, Row, Select, and_, case, delete, func, or_, select, update

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.core.fields import columns
from headrace_workers.core.sql.database import alone, among, clock, now_ms
from headrace_workers.core.sql.statements import append
from headrace_workers.files import FILE_USERS
from headrace_workers.files.tables import FILES, PARTS, PIECES, UPLOADS

PENDING, COMPLETED, EXPIRED = "pending", "completed", "expired"  # of an upload
_REMEMBERED_MS = 86_400_000  # that an upload is remembered when it is over


class Overtaken(HeadraceError):
    """Another process has done it meanwhile: what was read before no longer holds, and nothing was written."""

    category = Category.TRANSIENT


@dataclass(frozen=True, slots=True)
class Piece:
    """An object of the file store, and how many bytes it has."""

    path: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file to be written down. Without a digest it is one that grows. `keep_ms`: how long; None: for ever."""

    id: str
    tenant: str
    purpose: str
    name: str
    pieces: tuple[Piece, ...] = ()
    lines: int | None = None
    digest: str | None = None
    keep_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Growth:
    """The bytes appended to a file that had `before` bytes: `added` bytes at the end of a new object.

    That is the piece of this number. With `replaces` it takes that object's place, and begins with all that is in it.
    """

    file: NewFile
    before: int
    added: int
    number: int
    piece: Piece
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a file: its bytes, its number of objects, and the last of these. A new file has no object."""

    size: int = 0
    pieces: int = 0
    last: Piece | None = None


class TooManyFiles(HeadraceError):
    """A tenant keeps as many bytes of files, or has as many pending uploads, as it may."""

    category = Category.QUOTA


@dataclass(frozen=True, slots=True)
class FileBounds:
    """The bounds of a tenant: bytes of files, pending uploads included, and the number of pending uploads.

    0: any number. Files that batches write are never refused, but they count.
    """

    bytes: int = 0
    uploads: int = 0


def check_bounds(connection: Connection, tenant: str, size: int, bounds: FileBounds, *, uploads: int = 0) -> None:
    """Raise TooManyFiles if the tenant may not keep so many bytes more, or have so many uploads more pending.

    A caller writes after it has counted, so counts of one tenant wait for each other until the transaction ends.
    """
    if not (bounds.bytes or bounds.uploads):
        return
    alone(connection, f"files of {tenant}")
    pending = (UPLOADS.c.tenant == tenant, UPLOADS.c.state == PENDING, UPLOADS.c.expires_at >= now_ms())
    coming = select(func.count(), func.coalesce(func.sum(UPLOADS.c.size), 0)).where(*pending)
    open_uploads, announced = map(int, connection.execute(coming).one())
    if uploads and bounds.uploads and open_uploads + uploads > bounds.uploads:
        raise TooManyFiles(
            f"the tenant {tenant} has {open_uploads:,} uploads pending, and may have {bounds.uploads:,} "
            "at a time: complete or cancel some"
        )
    kept = select(func.coalesce(func.sum(FILES.c.size), 0)).where(FILES.c.tenant == tenant)
    there = int(connection.execute(kept).scalar_one()) + announced
    if bounds.bytes and there + size > bounds.bytes:
        raise TooManyFiles(
            f"files and pending uploads of the tenant {tenant} have {there:,} bytes, {size:,} more were sent, and "
            f"{bounds.bytes:,} may be kept (HEADRACE_MAX_FILE_BYTES): delete files that are not needed any more"
        )


def add(connection: Connection, new: NewFile) -> None:
    """Write down a file."""
    now = clock(connection)
    size = sum(piece.size for piece in new.pieces)
    expires_at = None if new.keep_ms is None else now + new.keep_ms
    append(connection, FILES, [columns(FILES, new, size=size, created_at=now, expires_at=expires_at)])
    _consists_of(connection, new.id, new.pieces)


def grow(connection: Connection, growth: Growth) -> None:
    """Append to a file; the first time it is made. Overtaken when it is not as it was."""
    if growth.number == 0 and growth.replaces is None:
        if file(connection, growth.file.id) is not None:
            raise Overtaken(f"the file {growth.file.id} has been made meanwhile")
        add(connection, growth.file)
    grown = update(FILES).where(FILES.c.id == growth.file.id, FILES.c.size == growth.before)
    if connection.execute(grown.values(size=FILES.c.size + growth.added)).rowcount != 1:
        raise Overtaken(f"the file {growth.file.id} has grown meanwhile")
    place = and_(PIECES.c.file_id == growth.file.id, PIECES.c.number == growth.number)
    if growth.replaces is None:
        row = {"file_id": growth.file.id, "number": growth.number, "path": growth.piece.path, "size": growth.piece.size}
        append(connection, PIECES, [row])
        return
    changed = update(PIECES).where(place, PIECES.c.path == growth.replaces)
    if connection.execute(changed.values(path=growth.piece.path, size=growth.piece.size)).rowcount != 1:
        raise Overtaken(f"the file {growth.file.id} has grown meanwhile")


def rewrite(connection: Connection, file_id: str, seen: Sequence[Piece], new: Sequence[Piece]) -> None:
    """A file consists of other objects from now on; of none: it is no more. Overtaken when it is not as `seen`."""
    if pieces(connection, file_id) != list(seen):
        raise Overtaken(f"the file {file_id} has grown meanwhile")
    connection.execute(delete(PIECES).where(PIECES.c.file_id == file_id))
    if not new:
        connection.execute(delete(FILES).where(FILES.c.id == file_id))
        return
    connection.execute(update(FILES).where(FILES.c.id == file_id).values(size=sum(piece.size for piece in new)))
    _consists_of(connection, file_id, new)


def _consists_of(connection: Connection, file_id: str, objects: Sequence[Piece]) -> None:
    rows = [
        {"file_id": file_id, "number": number, "path": piece.path, "size": piece.size}
        for number, piece in enumerate(objects)
    ]
    append(connection, PIECES, rows)


def file(connection: Connection, file_id: str, tenant: str | None = None) -> Row[Any] | None:
    """Return a file; with `tenant`, only that tenant's."""
    query = select(FILES).where(FILES.c.id == file_id)
    return connection.execute(query if tenant is None else query.where(FILES.c.tenant == tenant)).first()


def files(
    connection: Connection,
    tenant: str,
    *,
    purpose: str | None = None,
    after: str | None = None,
    limit: int = 10_000,
    newest_first: bool = True,
) -> list[Row[Any]]:
    """Return a tenant's files by age, starting after the file `after`."""
    query = select(FILES).where(FILES.c.tenant == tenant)
    if purpose is not None:
        query = query.where(FILES.c.purpose == purpose)
    if after is not None and (last := file(connection, after, tenant)) is not None:
        at, name = FILES.c.created_at, FILES.c.id
        beyond = (at < last.created_at, at == last.created_at, name < last.id)
        if not newest_first:
            beyond = (at > last.created_at, at == last.created_at, name > last.id)
        query = query.where(or_(beyond[0], and_(beyond[1], beyond[2])))
    order = (FILES.c.created_at, FILES.c.id)
    query = query.order_by(*(column.desc() if newest_first else column for column in order)).limit(limit)
    return list(connection.execute(query))


def pieces(connection: Connection, file_id: str) -> list[Piece]:
    """Return the objects that a file consists of, in order."""
    query = select(PIECES.c.path, PIECES.c.size).where(PIECES.c.file_id == file_id).order_by(PIECES.c.number)
    return [Piece(path, size) for path, size in connection.execute(query)]


def tail(connection: Connection, file_id: str) -> Tail:
    """Return where a file ends. A file that has grown long consists of very many objects."""
    query = (
        select(FILES.c.size, PIECES.c.number, PIECES.c.path, PIECES.c.size)
        .join(PIECES, PIECES.c.file_id == FILES.c.id)
        .where(FILES.c.id == file_id)
        .order_by(PIECES.c.number.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    if row is None:
        return Tail()
    size, number, path, of_last = row
    return Tail(size, number + 1, Piece(path, of_last))


def complete(connection: Connection, file_id: str, digest: str) -> None:
    """Mark a file as complete: it grows no more."""
    connection.execute(update(FILES).where(FILES.c.id == file_id).values(digest=digest))


def in_use(connection: Connection, file_id: str) -> str | None:
    """Return the id of a batch, or of something else that has not ended, that reads or writes this file."""
    users = (connection.execute(users.limit(1)).scalar() for users in _users_of(file_id))
    return next((found for found in users if found is not None), None)


def _users_of(file_id: str | ColumnElement[str]) -> list[Select[str]]:
    return [query(file_id) for query in FILE_USERS.values()]


def is_there(*file_ids: ColumnElement[str]) -> Exists:
    """Return a condition: at least one of these files exists."""
    return select(FILES.c.id).where(or_(*(FILES.c.id == file_id for file_id in file_ids))).exists()


def remove(connection: Connection, file_ids: Sequence[str]) -> list[str]:
    """Forget files, and return the paths of their objects, which nobody needs any more."""
    query = select(PIECES.c.path).where(among(connection, PIECES.c.file_id, list(file_ids)))
    paths = list(connection.execute(query).scalars())
    for column in (PIECES.c.file_id, FILES.c.id):
        connection.execute(delete(column.table).where(among(connection, column, list(file_ids))))
    return paths


def expired(connection: Connection, limit: int) -> list[str]:
    """Return files that have expired, and that nothing needs any more."""
    now = select(now_ms()).scalar_subquery()
    # Pick other objects each time, so that one which cannot be removed does not block the rest.
    query = (
        select(FILES.c.id)
        .where(FILES.c.expires_at < now, *(~users.exists() for users in _users_of(FILES.c.id)))
        .order_by(func.random())
    )
    return list(connection.execute(query.limit(limit)).scalars())


# -- uploads in parts


def begin_upload(
    connection: Connection, *, upload_id: str, tenant: str, purpose: str, name: str, size: int, lives_ms: int,
    file_seconds: int | None,
) -> Row[Any]:  # fmt: skip
    """Expect a file in parts."""
    now = clock(connection)
    row = {
        "id": upload_id, "tenant": tenant, "purpose": purpose, "name": name, "size": size, "state": PENDING,
        "file_seconds": file_seconds, "created_at": now, "expires_at": now + lives_ms,
    }  # fmt: skip
    append(connection, UPLOADS, [row])
    found = upload(connection, upload_id, tenant)
    assert found is not None  # noqa: S101 - it has just been written
    return found


def upload(connection: Connection, upload_id: str, tenant: str) -> Row[Any] | None:
    """Return a tenant's upload. Its state is `expired` if it was not completed in time."""
    return connection.execute(_upload(upload_id, tenant)).first()


def is_pending(connection: Connection, upload_id: str, tenant: str) -> bool:
    """Return True if a tenant's upload is pending, and keep it so until this transaction ends."""
    query = _upload(upload_id, tenant)
    row = connection.execute(query.with_for_update()).first()
    return row is not None and bool(row.state == PENDING)


def _upload(upload_id: str, tenant: str) -> Select[Any]:
    late = and_(UPLOADS.c.state == PENDING, UPLOADS.c.expires_at < now_ms())  # also before a bridge has seen it
    state = case((late, EXPIRED), else_=UPLOADS.c.state).label("state")
    others = (column for column in UPLOADS.c if column.name != "state")
    return select(*others, state).where(UPLOADS.c.id == upload_id, UPLOADS.c.tenant == tenant)


def add_part(connection: Connection, upload_id: str, part_id: str, piece: Piece) -> int:
    """Write down a part; when (ms)."""
    now = clock(connection)
    row = {"id": part_id, "upload_id": upload_id, "path": piece.path, "size": piece.size, "created_at": now}
    append(connection, PARTS, [row])
    return now


def parts(connection: Connection, upload_id: str) -> dict[str, Piece]:
    """Return the parts of an upload, by id."""
    query = select(PARTS.c.id, PARTS.c.path, PARTS.c.size).where(PARTS.c.upload_id == upload_id)
    return {part_id: Piece(path, size) for part_id, path, size in connection.execute(query)}


def end_upload(
    connection: Connection, upload_id: str, state: str, file_id: str | None = None, completion: str | None = None
) -> None:
    """An upload is over. Its parts stay written down until their objects are another's, or removed: see `left_over`."""
    ends = {"state": state, "file_id": file_id, "completion": completion}
    connection.execute(update(UPLOADS).where(UPLOADS.c.id == upload_id).values(ends))


def left_over(connection: Connection, limit: int, upload_id: str | None = None) -> dict[str, str]:
    """Return the paths of parts that nobody needs any more, by id: of all uploads that are over, or of one."""
    query = select(PARTS.c.id, PARTS.c.path).join(UPLOADS, UPLOADS.c.id == PARTS.c.upload_id)
    query = query.where(UPLOADS.c.state != PENDING)
    if upload_id is not None:
        query = query.where(UPLOADS.c.id == upload_id)
    return dict(iter(connection.execute(query.order_by(func.random()).limit(limit))))


def forget_parts(connection: Connection, part_ids: Sequence[str]) -> None:
    """Forget these parts, whose objects are part of a file now, or are removed."""
    connection.execute(delete(PARTS).where(among(connection, PARTS.c.id, list(part_ids))))


def expire_uploads(connection: Connection, limit: int) -> None:
    """End uploads that were not completed in time, and delete uploads that ended a day ago and left nothing."""
    now = clock(connection)
    late = select(UPLOADS.c.id).where(UPLOADS.c.state == PENDING, UPLOADS.c.expires_at < now).limit(limit)
    for upload_id in list(connection.execute(late.with_for_update(skip_locked=True)).scalars()):
        end_upload(connection, upload_id, EXPIRED)
    left = select(PARTS.c.id).where(PARTS.c.upload_id == UPLOADS.c.id).exists()
    old = and_(UPLOADS.c.state != PENDING, UPLOADS.c.expires_at < now - _REMEMBERED_MS, ~left)
    connection.execute(delete(UPLOADS).where(old))
