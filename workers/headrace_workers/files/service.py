"""Files: rows of the ledger and objects of the store, brought together.

Objects are written before the row that names them, and removed after it: a crash leaves only objects that no row names.
"""

import hashlib
import io
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from sqlalchemy import Row

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.core.environment import SettingsOf
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.text_file import LineCount
from headrace_workers.files.object_store import NoSuchObject, Store, StoreUnavailable
from headrace_workers.files.settings import FileSettings
from headrace_workers.files.store.files import FileBounds, Growth, NewFile, Piece, TooManyFiles
from headrace_workers.files.store.stored import NO_BOUNDS, StoredFiles

_MAX_UPLOADS: Final = 100  # of a tenant, pending at a time
_TRIES = 3  # a file that grows fast replaces its last object now and then

BATCH_INPUT: Final = "batch"  # the purpose of a file whose lines are counted
_CHUNK = 1024**2  # bytes
# What is appended to an object below this size makes a new one with both: so a file that grows slowly has no object for
# each line, and none is written anew often.
SMALL = 1024**2
_AWAY = 3  # objects that a store does not remove, and none that it does
_PIECE = 1024**2  # bytes: so much is in memory


class PieceStream(io.RawIOBase):
    """The bytes of a file from `start` on. It ends where the file ended when it came there.

    `load` says of which objects the file consists, and `open_piece` opens one. An object that has gone meanwhile was
    replaced by one that begins with the same bytes.
    """

    def __init__(
        self, load: Callable[[], Sequence[Piece]], open_piece: Callable[[str], BinaryIO], start: int = 0
    ) -> None:
        self._load = load
        self._open = open_piece
        self._pieces = list(load())
        self._at = start
        self._current: BinaryIO | None = None
        self._ends = 0  # where the current piece does

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Return the position in the stream."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        size = sum(piece.size for piece in self._pieces)
        self._at = max(0, offset + (0, self._at, size)[whence])
        self._release()
        return self._at

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Read some; 0 at the end. NoSuchObject where the file is no more, StoreUnavailable."""
        view = memoryview(buffer)
        if self._current is None and not self._find():
            return 0
        assert self._current is not None  # noqa: S101 - just found
        data = self._current.read(min(len(view), self._ends - self._at))
        view[: len(data)] = data
        self._at += len(data)
        if self._at >= self._ends or not data:
            self._release()
        return len(data)

    def close(self) -> None:
        """Close what is open."""
        self._release()
        super().close()

    def _find(self) -> bool:
        """Open the piece in which we are; False at the end."""
        for last in (*[False] * (_TRIES - 1), True):
            begins = 0
            for piece in self._pieces:
                if begins <= self._at < begins + piece.size:
                    try:
                        self._current = self._open(piece.path)
                    except NoSuchObject:
                        if last:
                            raise
                        break
                    self._current.seek(self._at - begins)
                    self._ends = begins + piece.size
                    return True
                begins += piece.size
            else:
                return False
            self._pieces = list(self._load())
        return False

    def _release(self) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None


class FileInUse(HeadraceError):
    """A file that a batch still reads or writes."""

    category = Category.CONFLICT


def new_id(kind: str) -> str:
    """An id that no other has: `file-…`, `batch_…`, as OpenAI writes them."""
    return f"{kind}{uuid.uuid4().hex}"


class Files:
    """The files of one deployment. Thread-safe. StoreUnavailable where the store does not do what it should."""

    def __init__(self, rows: StoredFiles, store: Store, bounds: FileBounds = NO_BOUNDS) -> None:
        self._rows = rows
        self._store = store
        self.bounds = bounds  # of what tenants send

    def add(
        self,
        chunks: Iterable[bytes],
        *,
        tenant: str,
        purpose: str,
        name: str,
        keep: float | None,
        lines: bool = False,
        goes_on: Callable[[], object] = lambda: None,
    ) -> Row[Any]:
        """Store what comes, and write it down; the file's row. `keep` in seconds; None: for ever. With `lines` the
        lines of the text in it are counted, and `goes_on` is called meanwhile. NotReadable where that cannot be done,
        TooManyFiles where the tenant may not keep it, and what `goes_on` raises: then nothing is stored.
        """
        if self.bounds.bytes:
            self._rows.check_bounds(tenant, 1, self.bounds)  # before bytes are moved in vain
        file_id = new_id("file-")
        seen = _Seen(LineCount(goes_on) if lines else None)
        path = self._path(tenant, file_id, 0)
        try:
            size = self._store.write(path, seen.of(chunks))
        except StoreUnavailable:
            raise
        except HeadraceError:
            self._store.remove([path])  # the folder in which it would be
            raise
        new = NewFile(
            id=file_id, tenant=tenant, purpose=purpose, name=name, pieces=(Piece(path, size),),
            lines=seen.lines, digest=seen.digest, keep_ms=None if keep is None else int(keep * 1000),
        )  # fmt: skip
        try:
            return self.put(new, self.bounds)
        except TooManyFiles:
            self._store.remove([path])
            raise

    def put(self, new: NewFile, bounds: FileBounds = NO_BOUNDS) -> Row[Any]:
        """Write down a file whose objects are stored; its row."""
        self._rows.add(new, bounds)
        row = self._rows.file(new.id)
        assert row is not None  # noqa: S101 - it has just been written
        return row

    def piece(self, chunks: Iterable[bytes], *, tenant: str, of: str) -> Piece:
        """Store a part of something that is to become a file."""
        path = self._path(tenant, of, 0)
        return Piece(path, self._store.write(path, chunks))

    def examine(
        self, pieces: Iterable[Piece], *, lines: bool, goes_on: Callable[[], object] = lambda: None
    ) -> tuple[str, str, int | None]:
        """SHA-256 and MD5 of what these are together, and the lines of the text in it. `goes_on` is called meanwhile,
        and may raise. NotReadable.
        """
        seen, old = _Seen(LineCount(goes_on) if lines else None), hashlib.md5(usedforsecurity=False)
        for chunk in seen.of(_chunks(self.together(tuple(pieces)))):
            goes_on()
            old.update(chunk)
        return seen.digest, old.hexdigest(), seen.lines

    def open(self, file_id: str, start: int = 0) -> io.RawIOBase:
        """The bytes of a file from a place on; nothing where there is no such file."""
        return PieceStream(lambda: self._rows.pieces(file_id), self._store.open, start)

    def head(self, file_id: str, most: int) -> bytes | None:
        """The first bytes of a file, so many at most; None where there is no such file."""
        if self._rows.file(file_id) is None:
            return None
        try:
            with io.BufferedReader(self.open(file_id)) as stream:
                return stream.read(most)
        except NoSuchObject:  # it was deleted meanwhile
            return None

    def chunks(self, file_id: str, start: int = 0) -> Iterator[bytes]:
        """The same, in chunks."""
        return _chunks(self.open(file_id, start))

    def growth(self, file: NewFile, data: bytes) -> Growth:
        """Store data that is to be appended to a file; return the growth that the ledger then writes."""
        tail = self._rows.tail(file.id)
        last = tail.last
        if last is not None and last.size < SMALL:
            number = tail.pieces - 1
            path = self._path(file.tenant, file.id, number)
            size = self._store.write(path, (self._store.read(last.path), data))
            return Growth(file, tail.size, len(data), number, Piece(path, size), replaces=last.path)
        path = self._path(file.tenant, file.id, tail.pieces)
        return Growth(file, tail.size, len(data), tail.pieces, Piece(path, self._store.write(path, (data,))))

    def pieces(self, file_id: str) -> list[Piece]:
        """The objects that the ledger names of a file, in order."""
        return self._rows.pieces(file_id)

    def reach(self, file_id: str) -> None:
        """Raise StoreUnavailable if the store does not answer about a file."""
        self.gone(self._rows.pieces(file_id)[:1])

    def gone(self, pieces: Iterable[Piece]) -> set[Piece]:
        """Return the objects among these that are no longer in the store."""
        by_path = {piece.path: piece for piece in pieces}
        return {by_path[path] for path in self._store.gone(by_path)}

    def together(self, pieces: Sequence[Piece]) -> io.RawIOBase:
        """The bytes of these objects, one after the other."""
        return PieceStream(lambda: pieces, self._store.open)

    def settle(self, file_id: str) -> str:
        """A file grows no more: its digest. Objects of it that no row names any more are removed."""
        pieces = self._rows.pieces(file_id)
        digest, _, _ = self.examine(pieces, lines=False)
        named = {piece.path for piece in pieces}
        for folder in {path.rpartition("/")[0] for path in named}:
            self._store.remove(path for path in self._store.objects(folder) if path not in named)
        return digest

    def remove(self, file_id: str) -> None:
        """Delete a file. FileInUse while a batch needs it."""
        if batch := self._rows.in_use(file_id):
            raise FileInUse(f"{file_id} belongs to {batch}, which is not over: cancel that first, or wait for it")
        self._remove(file_id)

    def drop(self, pieces: Iterable[Piece]) -> None:
        """Remove objects that are to become no file."""
        self._store.remove(piece.path for piece in pieces)

    def clear(self, upload_id: str | None = None, limit: int = 100) -> None:
        """Remove a bounded number of parts that became no file, of uploads that are over or of this one. Parts that the
        store does not remove now are removed later.
        """
        left = self._rows.left_over(limit, upload_id)
        gone: list[str] = []

        def remove(part_id: str) -> None:
            self._store.remove([left[part_id]])
            gone.append(part_id)

        try:
            _each(left, remove)
        finally:
            if gone:
                self._rows.forget_parts(gone)

    def expire(self, limit: int = 100) -> int:
        """Delete files whose time is over, a bounded number; how many. Uploads that were not completed in time end."""
        late = self._rows.expired(limit)
        _each(late, self._remove)
        self._rows.expire_uploads(limit)
        self.clear(limit=limit)
        return len(late)

    def _remove(self, file_id: str) -> None:
        """First what it consists of: once its row is gone, nobody would know of what is left in the store."""
        self._store.remove(piece.path for piece in self._rows.pieces(file_id))
        self._store.remove(self._rows.remove([file_id]))  # it may have grown meanwhile

    @staticmethod
    def _path(tenant: str, file_id: str, number: int) -> str:
        return f"{tenant}/{file_id}/{number:06d}-{uuid.uuid4().hex[:8]}"


def _each(names: Iterable[str], remove: Callable[[str], None]) -> None:
    """Remove each of these. One that the store does not remove is not in the way of the others; a store that removes
    none of several is away. StoreUnavailable after all else.
    """
    failure, failed, removed = None, 0, 0
    for name in names:
        try:
            remove(name)
            removed += 1
        except StoreUnavailable as error:
            failure, failed = error, failed + 1
            if failed >= _AWAY and not removed:
                break
    if failure is not None:
        raise failure


class _Seen:
    """The digest and the line count of the bytes that have passed."""

    def __init__(self, count: LineCount | None) -> None:
        self._sha = hashlib.sha256()
        self._count = count
        self.lines: int | None = None  # once all has passed

    def of(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._sha.update(chunk)
            if self._count is not None:
                self._count.feed(chunk)
            yield chunk
        if self._count is not None:
            self.lines = self._count.end()

    @property
    def digest(self) -> str:
        return self._sha.hexdigest()


def _chunks(stream: io.RawIOBase) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def files_in(home: Path, settings: SettingsOf, ledger: Ledger) -> Files:
    """Return this deployment's files. ConfigurationError when HEADRACE_FILES names no place that can be reached."""
    own = settings.of(FileSettings)
    bounds = FileBounds(own.max_file_bytes, _MAX_UPLOADS)
    return Files(ledger.of(StoredFiles), Store.at(own.place(home)), bounds)


class Piecewise:
    """Lines in, a file at the end: until then its parts are stored, and no row names them. `keep` in seconds.

    StoreUnavailable where the store does not do what it should.
    """

    def __init__(self, files: Files, *, tenant: str, purpose: str, name: str, keep: float) -> None:
        self._files = files
        self._new = NewFile(id=new_id("file-"), tenant=tenant, purpose=purpose, name=name, keep_ms=int(keep * 1000))
        self._pieces: list[Piece] = []
        self._text = bytearray()
        self._digest = hashlib.sha256()
        self._lines = 0

    def add(self, line: bytes) -> None:
        """One line more, with its end."""
        self._text += line
        self._lines += 1
        if len(self._text) >= _PIECE:
            self._store()

    def end(self) -> Row[Any] | None:
        """Finish the file, and return its row; None if it has no lines."""
        if self._text:
            self._store()
        if not self._pieces:
            return None
        whole = replace(self._new, pieces=tuple(self._pieces), lines=self._lines, digest=self._digest.hexdigest())
        self._pieces.clear()  # they may be the file's, also where nobody hears that it was written down
        return self._files.put(whole)

    def drop(self) -> None:
        """Discard the file, and remove its stored parts."""
        self._files.drop(self._pieces)
        self._pieces.clear()

    def _store(self) -> None:
        text = bytes(self._text)
        self._pieces.append(self._files.piece((text,), tenant=self._new.tenant, of=self._new.id))
        self._digest.update(text)
        self._text.clear()
