"""Files of vector stores become documents: a recall worker, which has the embedder, reads them one after the other.

Tenants take turns by the time that their files cost. A file whose worker died is read again when its lease has ended;
a worker that finishes after its lease writes nothing.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError, Unavailable, UnknownModel
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.outage import KeepsGoing
from headrace_workers.core.ports import CountingEmbedder
from headrace_workers.core.progress import Awaited, Loop
from headrace_workers.features.knowledge.documents import DocumentRefused
from headrace_workers.features.knowledge.intake import new_document
from headrace_workers.features.knowledge.reading import SIZE_LIMIT, Loaded, Reader
from headrace_workers.features.knowledge.store.documents import NewDocument
from headrace_workers.features.knowledge.store.store_files import document_name
from headrace_workers.features.knowledge.store.vector_stores import VectorStores

_PAUSE: Final = 1.0  # s between two looks where there is nothing to do
_LEASE_MS: Final = 1_800_000  # for one file: converting takes 300 s at most, and embedding 50 MB some minutes
_EXPIRE_EVERY: Final = 60.0  # s
_MOST_TENANTS: Final = 1_000  # whose turns are compared at a time
_EXPIRED_AT_ONCE: Final = 100  # documents of stores that nobody used for long

# The bytes of a file, so many at most; None where there is no such file any more. Unavailable with the file store.
ReadFile = Callable[[str, int], bytes | None]


class CannotRead(Unavailable):
    """A file cannot be read for now: there is no embedder, or the file store is away."""


class TenantTurns:
    """Turns between tenants: the next file is from the tenant whose files took the least time so far.

    A tenant that was away starts level with the waiting tenant that has had the least, so that it gets no credit for
    the time before.
    """

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}  # seconds
        self._latest = ""  # tenant

    def order(self, tenants: Sequence[str]) -> list[str]:
        """Return the waiting tenants in the order of their turns."""
        level = min((self._spent[tenant] for tenant in tenants if tenant in self._spent), default=0.0)
        for tenant in tenants:
            self._spent[tenant] = max(level, self._spent.get(tenant, level))
        return sorted(tenants, key=lambda tenant: (self._spent[tenant], tenant == self._latest))

    def charge(self, tenant: str, seconds: float) -> None:
        """Count time that a file of this tenant took. The tenants that spent least are forgotten past the bound."""
        self._latest = tenant
        self._spent[tenant] = self._spent.get(tenant, 0.0) + seconds
        if len(self._spent) > 2 * _MOST_TENANTS:
            most = sorted(self._spent.items(), key=lambda item: -item[1])[:_MOST_TENANTS]
            self._spent = dict(most)


@dataclass(frozen=True, slots=True)
class Filling:
    """Reads what is on its way into knowledge bases. Several may: each file is read by one of them."""

    ledger: Ledger
    read_file: ReadFile
    reader: Reader
    embedder: Callable[[], CountingEmbedder]
    monotonic: Callable[[], float] = time.monotonic
    turns: TenantTurns = field(default_factory=TenantTurns)

    def once(self) -> bool:
        """Read one file, of the tenant whose turn it is; return True if there was one.

        Raises Unavailable with the ledger, CannotRead without an embedder or a file store.
        """
        for tenant in self.turns.order(self.ledger.of(VectorStores).waiting_tenants(_MOST_TENANTS)):
            row = self.ledger.of(VectorStores).take(tenant, _LEASE_MS)
            if row is not None:  # else another worker took the tenant's last one
                began = self.monotonic()
                try:
                    return self._read(row)
                finally:
                    self.turns.charge(tenant, self.monotonic() - began)
        return False

    def _read(self, row: Any) -> bool:
        try:
            document = self._document(row, self.embedder())
        except DocumentRefused as refused:
            self.ledger.of(VectorStores).fail(row.id, row.tries, "unsupported_file", str(refused))
            return True
        except (Unavailable, UnknownModel, ConfigurationError) as error:  # no file store, no embedder: for now
            self.ledger.of(VectorStores).give_back(row.id, row.tries)
            raise CannotRead(str(error)) from error
        if document is None:
            self.ledger.of(VectorStores).fail(
                row.id, row.tries, "invalid_file", f"there is no file {row.file_id} any more"
            )
        else:
            self.ledger.of(VectorStores).arrived(row.id, row.tries, document)
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
        self._lacks: Awaited | None = None

    def _look(self) -> Awaited | None:
        with self._progress.excused():  # a file may take minutes
            try:
                busy = self._filling.once()
            except CannotRead as error:
                self._lacks = Awaited("what fills vector stores", str(error))
                self._stop.wait(_PAUSE)
                return self._lacks
        # A file that could not be read is tried again later. Until then there is none to read, which is no sign that
        # what it lacked is back.
        if self._lacks and (busy or not self._filling.ledger.of(VectorStores).are_open()):
            self._lacks = None
        if not self._expire() and not busy:
            self._stop.wait(_PAUSE)
        return self._lacks

    def _expire(self) -> int:
        """Remove documents of stores that nobody used for long; how many, and 0 where it is not time to look."""
        if time.monotonic() - self._expired_at < _EXPIRE_EVERY:
            return 0
        expired = self._filling.ledger.of(VectorStores).expire(_EXPIRED_AT_ONCE)
        if expired:
            log("recall", logging.INFO, Action.BASE_LET_GO, "documents of a vector store that expired were removed",
                documents=expired)  # fmt: skip
        else:
            self._expired_at = time.monotonic()
        return expired
