"""Files that were put into a vector store together: a row says which, and how they stand is read from the store."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, select, update

from headrace_workers.ledger import store_files
from headrace_workers.ledger.database import among, now_ms, reading, writing
from headrace_workers.ledger.store_files import Incoming, StoreFile
from headrace_workers.ledger.store_tables import FILE_BATCHES, INCOMING

MOST_KEPT: Final = 100  # of a store: the oldest is forgotten, and its files stay


@dataclass(frozen=True, slots=True)
class FileBatch:
    """A batch, and its files that are in the store, in order of their time. `cancelled` is how many were taken out of
    it before they were read; None where nobody cancelled. `created_at` is in ms.
    """

    id: str
    created_at: int
    files: tuple[StoreFile, ...]
    cancelled: int | None

    def count(self, state: store_files.State) -> int:
        """How many of its files stand so."""
        return sum(each.state == state for each in self.files)


class FileBatches:
    """The batches of files of one ledger; each method is one transaction. Thread-safe. Unavailable when it does not
    answer. Another tenant's are not there.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def send(self, tenant: str, knowledge: str, batch_id: str, files: Sequence[Incoming]) -> None:
        """Put these files into a store, as a batch."""
        with writing(self._engine) as tx:
            store_files.send(tx, tenant, knowledge, files)
            names = [[each.file_id, each.name] for each in files]
            tx.execute(
                FILE_BATCHES.insert().values(
                    id=batch_id, tenant=tenant, knowledge=knowledge, files=json.dumps(names), created_at=now_ms()
                )
            )
            _forget_oldest(tx, tenant, knowledge)

    def find(self, tenant: str, knowledge: str, batch_id: str) -> FileBatch | None:
        """A batch of a store; None where there is none of this id."""
        with reading(self._engine) as tx:
            return _find(tx, tenant, knowledge, batch_id)

    def cancel(self, tenant: str, knowledge: str, batch_id: str) -> FileBatch | None:
        """Take those of its files out of the store that were not read yet; None where there is no such batch."""
        with writing(self._engine) as tx:
            found = _find(tx, tenant, knowledge, batch_id)
            if found is None or found.cancelled is not None or not found.count("in_progress"):
                return found
            ids = [each.id for each in found.files if each.state == "in_progress"]
            gone = delete(INCOMING).where(
                INCOMING.c.tenant == tenant,
                INCOMING.c.knowledge == knowledge,
                INCOMING.c.state == "in_progress",
                among(tx, INCOMING.c.file_id, ids),
            )
            taken = len(tx.execute(gone.returning(INCOMING.c.id)).all())
            tx.execute(update(FILE_BATCHES).where(FILE_BATCHES.c.id == batch_id).values(cancelled=taken))
            return _find(tx, tenant, knowledge, batch_id)


def _find(tx: Connection, tenant: str, knowledge: str, batch_id: str) -> FileBatch | None:
    mine = (FILE_BATCHES.c.tenant == tenant, FILE_BATCHES.c.knowledge == knowledge, FILE_BATCHES.c.id == batch_id)
    row: Any = tx.execute(select(FILE_BATCHES).where(*mine)).first()
    if row is None:
        return None
    found = store_files.named(tx, tenant, knowledge, dict(json.loads(row.files)))
    return FileBatch(row.id, row.created_at, tuple(found), row.cancelled)


def _forget_oldest(tx: Connection, tenant: str, knowledge: str) -> None:
    mine = (FILE_BATCHES.c.tenant == tenant, FILE_BATCHES.c.knowledge == knowledge)
    order = (FILE_BATCHES.c.created_at.desc(), FILE_BATCHES.c.id.desc())
    old = list(tx.execute(select(FILE_BATCHES.c.id).where(*mine).order_by(*order).offset(MOST_KEPT)).scalars())
    if old:
        tx.execute(delete(FILE_BATCHES).where(among(tx, FILE_BATCHES.c.id, old)))
