"""Vector stores, as the ledger keeps them. Each method is one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

from headrace_workers.core.sql.database import writing
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.features.knowledge.store import store_files, stores
from headrace_workers.features.knowledge.store.store_files import Incoming
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
        """Create a store, with files on their way into it; return it."""
        with writing(self._engine) as tx:
            stores.create(
                tx, tenant, knowledge, name=name, description=description, metadata=metadata, expire_days=expire_days
            )
            store_files.send(tx, tenant, knowledge, files)
            found = stores.store(tx, tenant, knowledge)
            assert found is not None  # noqa: S101 - it has just been written
            return found

    def change(self, tenant: str, knowledge: str, values: Mapping[str, Any]) -> Store | None:
        """Change these values of a store; return it, or None if there is no such store."""
        with writing(self._engine) as tx:
            return stores.store(tx, tenant, knowledge) if stores.change(tx, tenant, knowledge, values) else None

    store = reads(stores.store)
    used = durable(stores.used)
    remove = durable(stores.remove)
    expire = durable(stores.expire)

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

    stores = reads(stores.stores)
