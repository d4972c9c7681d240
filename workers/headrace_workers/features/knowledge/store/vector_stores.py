"""Vector stores and batches of their files, as the ledger keeps them. Each method is one transaction."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, select, update

from headrace_workers.core.sql.database import among, now_ms, reading, writing
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.features.knowledge.store import store_files
from headrace_workers.features.knowledge.store.store_files import Incoming, State, Store, StoreFile
from headrace_workers.features.knowledge.tables import FILE_BATCHES, INCOMING


class VectorStores(LedgerStore):
    """The vector stores of one ledger. Thread-safe. Unavailable when the database does not answer."""

    def create(
        self,
        tenant: str,
        knowledge: str,
        *,
        name: str,
        description: str | None,
        metadata: Mapping[str, str],
        expire_days: int | None,
        files: Sequence[Incoming],
    ) -> Store:
        """Create a store, with files on their way into it; return it."""
        with writing(self._engine) as tx:
            store_files.create_store(
                tx, tenant, knowledge, name=name, description=description, metadata=metadata, expire_days=expire_days
            )
            store_files.send(tx, tenant, knowledge, files)
            store = store_files.store(tx, tenant, knowledge)
            assert store is not None  # noqa: S101 - it has just been written
            return store

    def change(self, tenant: str, knowledge: str, values: Mapping[str, Any]) -> Store | None:
        """Change these values of a store; return it, or None if there is no such store."""
        with writing(self._engine) as tx:
            return (
                store_files.store(tx, tenant, knowledge)
                if store_files.change_store(tx, tenant, knowledge, values)
                else None
            )

    store = reads(store_files.store)
    used = durable(store_files.used)
    remove = durable(store_files.remove_store)
    expire = durable(store_files.expire_stores)

    # -- files on their way into a store

    send = durable(store_files.send)
    waiting_tenants = reads(store_files.waiting_tenants)
    are_open = reads(store_files.are_open)
    take = durable(store_files.take)
    arrived = durable(store_files.arrived)
    give_back = durable(store_files.give_back)
    fail = durable(store_files.fail)

    # -- files of a store

    file = reads(store_files.file)
    files = reads(store_files.files)
    describe = durable(store_files.describe)
    texts = reads(store_files.texts)
    remove_file = durable(store_files.remove_file)

    stores = reads(store_files.stores)


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

    def count(self, state: State) -> int:
        """Return how many of its files are in this state."""
        return sum(file.state == state for file in self.files)


class FileBatches(LedgerStore):
    """The batches of files of one ledger; each method is one transaction. Thread-safe. Unavailable when it does not
    answer. Another tenant's are not there.
    """

    def send(self, tenant: str, knowledge: str, batch_id: str, files: Sequence[Incoming]) -> None:
        """Put these files into a store, as a batch."""
        with writing(self._engine) as tx:
            store_files.send(tx, tenant, knowledge, files, batched=True)
            note_files(tx, tenant, knowledge, batch_id, files)

    def find(self, tenant: str, knowledge: str, batch_id: str) -> FileBatch | None:
        """Return a batch of a store; None if there is none of this id."""
        with reading(self._engine) as tx:
            return _find(tx, tenant, knowledge, batch_id)

    def cancel(self, tenant: str, knowledge: str, batch_id: str) -> FileBatch | None:
        """Remove the files that were not read yet from the batch, and from the store if nobody else wants them. Return
        None if there is no such batch.
        """
        with writing(self._engine) as tx:
            batch = _find(tx, tenant, knowledge, batch_id)
            if batch is None or batch.cancelled is not None or not batch.count("in_progress"):
                return batch
            # A transaction that adds one of these files meanwhile waits, or the next read sees it.
            locked = _locked(tx, tenant, knowledge, [file.id for file in batch.files if file.state == "in_progress"])
            others = _wanted(tx, tenant, knowledge, but=batch_id)
            gone = [row.id for row in locked if not row.stays and row.file_id not in others]
            tx.execute(delete(INCOMING).where(among(tx, INCOMING.c.id, gone)))
            let_go = {row.file_id for row in locked}
            kept = [[file.id, file.name] for file in batch.files if file.id not in let_go]
            tx.execute(
                update(FILE_BATCHES)
                .where(FILE_BATCHES.c.id == batch_id)
                .values(cancelled=len(let_go), files=json.dumps(kept))
            )
            return _find(tx, tenant, knowledge, batch_id)


def note_files(tx: Connection, tenant: str, knowledge: str, batch_id: str, files: Sequence[Incoming]) -> None:
    """Write down which files a batch has, after the files themselves."""
    names = [[file.file_id, file.name] for file in files]
    tx.execute(
        FILE_BATCHES.insert().values(
            id=batch_id, tenant=tenant, knowledge=knowledge, files=json.dumps(names), created_at=now_ms()
        )
    )
    _forget_oldest(tx, tenant, knowledge)


def _find(tx: Connection, tenant: str, knowledge: str, batch_id: str) -> FileBatch | None:
    mine = (FILE_BATCHES.c.tenant == tenant, FILE_BATCHES.c.knowledge == knowledge, FILE_BATCHES.c.id == batch_id)
    row: Any = tx.execute(select(FILE_BATCHES).where(*mine)).first()
    if row is None:
        return None
    files = store_files.named(tx, tenant, knowledge, dict(json.loads(row.files)))
    return FileBatch(row.id, row.created_at, tuple(files), row.cancelled)


def _locked(tx: Connection, tenant: str, knowledge: str, file_ids: Sequence[str]) -> list[Row[Any]]:
    """Return the pending files, locked until this transaction ends."""
    query = (
        select(INCOMING.c.id, INCOMING.c.file_id, INCOMING.c.stays)
        .where(
            INCOMING.c.tenant == tenant,
            INCOMING.c.knowledge == knowledge,
            INCOMING.c.state == "in_progress",
            among(tx, INCOMING.c.file_id, file_ids),
        )
        .order_by(INCOMING.c.id)
    )
    return list(tx.execute(query.with_for_update()))


def _wanted(tx: Connection, tenant: str, knowledge: str, *, but: str) -> set[str]:
    """Return the files of all batches of a store that nobody cancelled, but this one."""
    mine = (FILE_BATCHES.c.tenant == tenant, FILE_BATCHES.c.knowledge == knowledge, FILE_BATCHES.c.id != but,
            FILE_BATCHES.c.cancelled.is_(None))  # fmt: skip
    return {file_id for files in tx.execute(select(FILE_BATCHES.c.files).where(*mine)).scalars()
            for file_id, _ in json.loads(files)}  # fmt: skip


def _forget_oldest(tx: Connection, tenant: str, knowledge: str) -> None:
    mine = (FILE_BATCHES.c.tenant == tenant, FILE_BATCHES.c.knowledge == knowledge)
    order = (FILE_BATCHES.c.created_at.desc(), FILE_BATCHES.c.id.desc())
    old = tx.execute(
        select(FILE_BATCHES.c.id, FILE_BATCHES.c.files).where(*mine).order_by(*order).offset(MOST_KEPT)
    ).all()
    if old:
        tx.execute(delete(FILE_BATCHES).where(among(tx, FILE_BATCHES.c.id, [row.id for row in old])))
        file_ids = [file_id for row in old for file_id, _ in json.loads(row.files)]
        tx.execute(
            update(INCOMING)
            .where(INCOMING.c.tenant == tenant, INCOMING.c.knowledge == knowledge)
            .where(among(tx, INCOMING.c.file_id, file_ids))
            .values(stays=True)
        )
