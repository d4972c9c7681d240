"""A file that is written a part at a time, so that its writer can do other work between two parts."""

import hashlib
from dataclasses import replace
from typing import Any

from sqlalchemy import Row

from headrace_workers.features.files.file_service import Files, new_id
from headrace_workers.features.files.store.files import NewFile, Piece

_PIECE = 1024**2  # bytes: so much is in memory


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
