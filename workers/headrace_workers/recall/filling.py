"""Files of vector stores become documents: a recall worker, which has the embedder, reads them one after the other.

A file that is read by nobody any more, because its worker died, is taken up again when its time is over; whoever comes
late with it writes nothing.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError, Unavailable, UnknownModel
from headrace_workers.away import KeepsGoing
from headrace_workers.knowledge.documents import DocumentRefused
from headrace_workers.knowledge.reading import SIZE_LIMIT, Loaded, Reader
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.ledger.recall.documents import NewDocument
from headrace_workers.ledger.stores.store_files import document_name
from headrace_workers.log import Action, log
from headrace_workers.ports import CountingEmbedder
from headrace_workers.progress import Awaited, Loop
from headrace_workers.recall.intake import new_document

_PAUSE: Final = 1.0  # s between two looks where there is nothing to do
_LEASE_MS: Final = 1_800_000  # for one file: converting takes 300 s at most, and embedding 50 MB some minutes
_EXPIRE_EVERY: Final = 60.0  # s
_EXPIRED_AT_ONCE: Final = 100  # documents of stores that nobody used for long

# The bytes of a file, so many at most; None where there is no such file any more. Unavailable with the file store.
ReadFile = Callable[[str, int], bytes | None]


class CannotRead(Unavailable):
    """A file cannot be read for now: there is no embedder, or the file store is away."""


@dataclass(frozen=True, slots=True)
class Filling:
    """Reads what is on its way into knowledge bases. Several may: each file is read by one of them."""

    ledger: Ledger
    read_file: ReadFile
    reader: Reader
    embedder: Callable[[], CountingEmbedder]

    def once(self) -> bool:
        """Read one file; whether there was any. Unavailable with the ledger, CannotRead."""
        row = self.ledger.stores.take(_LEASE_MS) if self.ledger.stores.waits() else None
        if row is None:
            return False
        return self._read(row)

    def _read(self, row: Any) -> bool:
        try:
            document = self._document(row, self.embedder())
        except DocumentRefused as refused:
            self.ledger.stores.fail(row.id, row.tries, "unsupported_file", str(refused))
            return True
        except (Unavailable, UnknownModel, ConfigurationError) as error:  # no file store, no embedder: for now
            self.ledger.stores.give_back(row.id, row.tries)
            raise CannotRead(str(error)) from error
        if document is None:
            self.ledger.stores.fail(row.id, row.tries, "invalid_file", f"there is no file {row.file_id} any more")
        else:
            self.ledger.stores.arrived(row.id, row.tries, document)
        return True

    def _document(self, row: Any, embedder: CountingEmbedder) -> NewDocument | None:
        data = self.read_file(row.file_id, SIZE_LIMIT + 1)
        if data is None:
            return None
        if len(data) > SIZE_LIMIT:
            raise DocumentRefused(f"{row.name}: it has more than {SIZE_LIMIT:,} bytes: part it")
        if not data:
            raise DocumentRefused(f"{row.name}: it is empty")
        name = document_name(row.file_id, row.name)
        loaded = Loaded(name, PurePath(row.name).suffix.lower(), data, hashlib.sha256(data).hexdigest())
        return new_document(
            self.reader.read(loaded),
            len(data),
            json.loads(row.attributes),
            tenant=row.tenant,
            knowledge=row.knowledge,
            embedder=embedder,
            count_tokens=embedder.count_tokens,
        )


class Fills(KeepsGoing):
    """Keeps filling, from a thread of its own."""

    def __init__(self, filling: Filling, loop: Loop) -> None:
        super().__init__(loop)
        self._filling = filling
        self._expired_at = -_EXPIRE_EVERY

    def _look(self) -> Awaited | None:
        with self._progress.excused():  # a file may take minutes
            try:
                busy = self._filling.once()
            except CannotRead as error:
                self._stop.wait(_PAUSE)
                return Awaited("what fills vector stores", str(error))
        if not self._expire() and not busy:
            self._stop.wait(_PAUSE)
        return None

    def _expire(self) -> int:
        """Remove documents of stores that nobody used for long; how many, and 0 where it is not time to look."""
        if time.monotonic() - self._expired_at < _EXPIRE_EVERY:
            return 0
        expired = self._filling.ledger.stores.expire(_EXPIRED_AT_ONCE)
        if expired:
            log("recall", logging.INFO, Action.BASE_LET_GO, "documents of a vector store that expired were removed",
                documents=expired)  # fmt: skip
        else:
            self._expired_at = time.monotonic()
        return expired
