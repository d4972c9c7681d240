"""Vector stores, as the ledger keeps them. Each method is one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from headrace_schemas.attributes import AttributeMap
from headrace_workers.core.sql.by_bytes import Part
from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.features.knowledge.store import store_files, stores
from headrace_workers.features.knowledge.store.documents import NewDocument
from headrace_workers.features.knowledge.store.store_files import Incoming, State, StoreFile
from headrace_workers.features.knowledge.store.stores import Store


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
        """A new store, with files on their way into it."""
        with writing(self._engine) as tx:
            stores.create(
                tx, tenant, knowledge, name=name, description=description, metadata=metadata, expire_days=expire_days
            )
            store_files.send(tx, tenant, knowledge, files)
            found = stores.store(tx, tenant, knowledge)
            assert found is not None  # noqa: S101 - it has just been written
            return found

    def change(self, tenant: str, knowledge: str, values: Mapping[str, Any]) -> Store | None:
        """Say something else of a store; None where there is none."""
        with writing(self._engine) as tx:
            return stores.store(tx, tenant, knowledge) if stores.change(tx, tenant, knowledge, values) else None

    def store(self, tenant: str, knowledge: str) -> Store | None:
        """A tenant's store of this id; None where there is none."""
        with reading(self._engine) as tx:
            return stores.store(tx, tenant, knowledge)

    def stores(self, tenant: str) -> list[Store]:
        """All stores of a tenant, oldest first."""
        with reading(self._engine) as tx:
            return stores.stores(tx, tenant)

    def used(self, tenant: str, knowledge: str) -> None:
        """Note that a store is used at this moment."""
        with writing(self._engine) as tx:
            stores.used(tx, tenant, knowledge)

    def remove(self, tenant: str, knowledge: str) -> bool:
        """Forget a store and the files that are on their way into it; whether it was there."""
        with writing(self._engine) as tx:
            return stores.remove(tx, tenant, knowledge)

    def expire(self, limit: int) -> int:
        """Remove documents of stores that nobody used for as long as they said, a bounded number; how many."""
        with writing(self._engine) as tx:
            return stores.expire(tx, limit)

    def send(self, tenant: str, knowledge: str, files: Sequence[Incoming]) -> None:
        """Files are to become documents of a base."""
        with writing(self._engine) as tx:
            store_files.send(tx, tenant, knowledge, files)

    def waiting_tenants(self, limit: int) -> list[str]:
        """Return tenants with files that wait to be read, `limit` at most."""
        with reading(self._engine) as tx:
            return store_files.waiting_tenants(tx, limit)

    def are_open(self) -> bool:
        """Return True if any file is in progress."""
        with reading(self._engine) as tx:
            return store_files.are_open(tx)

    def take(self, tenant: str, lease_ms: int) -> Row[Any] | None:
        """Lease the tenant's next file for `lease_ms`; None if no file waits."""
        with writing(self._engine) as tx:
            return store_files.take(tx, tenant, lease_ms)

    def arrived(self, row_id: int, tries: int, document: NewDocument) -> bool:
        """A file that was taken is a document from now on; False where it is no longer wanted."""
        with writing(self._engine) as tx:
            return store_files.arrived(tx, row_id, tries, document)

    def give_back(self, row_id: int, tries: int) -> None:
        """A file that was taken could not be read for now."""
        with writing(self._engine) as tx:
            store_files.give_back(tx, row_id, tries)

    def fail(self, row_id: int, tries: int, code: str, reason: str) -> None:
        """A file that was taken can be no document."""
        with writing(self._engine) as tx:
            store_files.fail(tx, row_id, tries, code, reason)

    def file(self, tenant: str, knowledge: str, file_id: str) -> StoreFile | None:
        """A file of a store; None where there is none of this id."""
        with reading(self._engine) as tx:
            return store_files.file(tx, tenant, knowledge, file_id)

    def files(
        self,
        tenant: str,
        knowledge: str,
        *,
        after: StoreFile | None = None,
        limit: int,
        newest_first: bool = False,
        state: State | None = None,
    ) -> list[StoreFile]:
        """Files of a store in order of their time, those behind `after`."""
        with reading(self._engine) as tx:
            return store_files.files(
                tx, tenant, knowledge, after=after, limit=limit, newest_first=newest_first, state=state
            )

    def describe(self, tenant: str, knowledge: str, file_id: str, attributes: AttributeMap) -> bool:
        """Give a file of a store these attributes and no others; whether it was there."""
        with writing(self._engine) as tx:
            return store_files.describe(tx, tenant, knowledge, file_id, attributes)

    def texts(self, document_id: int, after: int = 0) -> Part:
        """The next of a document's passages behind this one, in order: id, text."""
        with reading(self._engine) as tx:
            return store_files.texts(tx, document_id, after)

    def remove_file(self, tenant: str, knowledge: str, file_id: str) -> bool:
        """Take a file out of a store; whether it was there."""
        with writing(self._engine) as tx:
            return store_files.remove_file(tx, tenant, knowledge, file_id)
