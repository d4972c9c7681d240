"""Files that come in parts: each part is an object, and the file consists of them, in the order that is given."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Row

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.files.object_store import NoSuchObject, StoreUnavailable
from headrace_workers.files.service import Files, new_id
from headrace_workers.files.store.files import COMPLETED, PENDING, NewFile
from headrace_workers.files.store.stored import StoredFiles

LIVES = 3_600.0  # seconds that an upload may take
MOST_PARTS = 10_000  # of one upload
_TIMES = 2  # as much as was announced may come: who was not answered sends a part again


class WrongUpload(HeadraceError):
    """An upload that differs from its announcement. `param` names the wrong field."""

    category = Category.INVALID

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class NotPending(HeadraceError):
    """The upload is over."""

    category = Category.CONFLICT


class Uploads:
    """The uploads of one deployment. Thread-safe."""

    def __init__(self, rows: StoredFiles, files: Files) -> None:
        self._rows = rows
        self._files = files

    def begin(self, *, tenant: str, purpose: str, name: str, size: int, file_seconds: int | None) -> Row[Any]:
        """Expect a file of so many bytes. TooManyFiles."""
        return self._rows.begin_upload(
            upload_id=new_id("upload_"), tenant=tenant, purpose=purpose, name=name, size=size,
            lives_ms=int(LIVES * 1000), file_seconds=file_seconds, bounds=self._files.bounds,
        )  # fmt: skip

    def add(self, upload: Row[Any], chunks: Iterable[bytes]) -> tuple[str, int]:
        """Store a part; its id, and when (ms). NotPending; WrongUpload where much more came than was announced."""
        self._pending(upload)
        there = self._rows.parts(upload.id)
        if len(there) >= MOST_PARTS:
            raise WrongUpload(
                f"data: {MOST_PARTS:,} parts of this upload are there, which is the most: send larger ones",
                "data",
            )
        came = sum(piece.size for piece in there.values())
        if came >= _TIMES * upload.size:
            raise WrongUpload(
                f"data: the parts that came have {came:,} bytes together, and {upload.size:,} were announced: complete "
                "the upload with the parts that you want, or cancel it",
                "data",
            )
        piece = self._files.piece(chunks, tenant=upload.tenant, of=upload.id)
        part_id = new_id("part_")
        at = self._rows.add_part(upload.id, upload.tenant, part_id, piece)
        if at is None:
            self._files.drop([piece])
            raise NotPending(f"the upload {upload.id} was ended while this part came")
        return part_id, at

    def complete(
        self,
        upload: Row[Any],
        part_ids: Sequence[str],
        md5: str | None,
        *,
        lines: bool,
        goes_on: Callable[[], object] = lambda: None,
    ) -> Row[Any]:
        """The file that these parts are; other parts are dropped. A repeated request, such as after a lost answer,
        returns the same file. `goes_on` is called while they are read, and may raise: the upload stays as it is.
        WrongUpload, NotReadable, NotPending.
        """
        try:
            return self._complete(upload, part_ids, md5, lines, goes_on)
        except (WrongUpload, NotPending, NoSuchObject):
            now = self._rows.upload(upload.id, upload.tenant)  # it may have been completed meanwhile
            if now is None or now.state == PENDING:
                raise
            if now.state != COMPLETED:
                raise NotPending(f"the upload {upload.id} is {now.state}") from None
            if now.completion != _digest(part_ids, md5):
                raise NotPending(f"the upload {upload.id} is completed, with other parts or another md5") from None
            row = self._rows.file(now.file_id)
            if row is None:
                raise NotPending(f"the upload {upload.id} is completed, and its file was deleted since") from None
            return row

    def _complete(
        self,
        upload: Row[Any],
        part_ids: Sequence[str],
        md5: str | None,
        lines: bool,
        goes_on: Callable[[], object],
    ) -> Row[Any]:
        self._pending(upload)
        there = self._rows.parts(upload.id)
        if unknown := [part_id for part_id in part_ids if part_id not in there]:
            raise WrongUpload(f"part_ids: {unknown[0]!r} is no part of this upload", "part_ids")
        if len(set(part_ids)) < len(part_ids):
            raise WrongUpload("part_ids: a part comes twice", "part_ids")
        pieces = tuple(there[part_id] for part_id in part_ids)
        size = sum(piece.size for piece in pieces)
        if size != upload.size:
            raise WrongUpload(f"the parts have {size:,} bytes together, and {upload.size:,} were announced", "part_ids")
        digest, old, counted = self._files.examine(pieces, lines=lines, goes_on=goes_on)
        if md5 is not None and old != md5.lower():
            raise WrongUpload(f"md5: that of the parts is {old}", "md5")
        new = NewFile(
            id=new_id("file-"), tenant=upload.tenant, purpose=upload.purpose, name=upload.name, pieces=pieces,
            lines=counted, digest=digest,
            keep_ms=None if upload.file_seconds is None else upload.file_seconds * 1000,
        )  # fmt: skip
        if not self._rows.complete_upload(upload.id, new, part_ids, _digest(part_ids, md5)):
            raise NotPending(f"the upload {upload.id} was ended meanwhile")
        self._clear(upload.id)
        row = self._rows.file(new.id)
        assert row is not None  # noqa: S101 - it has just been written
        return row

    def cancel(self, upload: Row[Any]) -> None:
        """Let go of what came. NotPending."""
        if not self._rows.cancel_upload(upload.id, upload.tenant):
            raise NotPending(f"the upload {upload.id} is over")
        self._clear(upload.id)

    def _clear(self, upload_id: str) -> None:
        with suppress(StoreUnavailable):  # then it is done later, and the upload has ended all the same
            self._files.clear(upload_id, MOST_PARTS)

    @staticmethod
    def _pending(upload: Row[Any]) -> None:
        if upload.state != PENDING:
            raise NotPending(f"the upload {upload.id} is {upload.state}")


def _digest(part_ids: Sequence[str], md5: str | None) -> str:
    """Return the digest of the parts that complete an upload."""
    return hashlib.sha256(json.dumps([*part_ids, md5 and md5.lower()]).encode()).hexdigest()
