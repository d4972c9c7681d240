"""The two ways into the ledger's database: one that nothing is lost of, and a faster one."""

from collections.abc import Callable
from typing import Self, TypeVar

from sqlalchemy import Engine

from headrace_workers.core.sql.database import connect, listen, lose_together
from headrace_workers.core.sql.single_statements import SingleStatements

S = TypeVar("S", bound="LedgerStore")


class Engines:
    """The connections of one ledger. Thread-safe; not to be carried over a fork (call `close` in the parent before)."""

    def __init__(self, engine: Engine, volatile: Engine | None = None) -> None:
        self._engine = engine
        # For hand-outs, starts, renewals and duties: a crash of the database that forgets one of them looks like a
        # lease that ran out, or makes an event be published again under the same id.
        self._volatile = volatile or engine
        self._single = SingleStatements(engine)
        self._single_volatile = self._single if self._volatile is engine else SingleStatements(self._volatile)
        self._stores: dict[type[LedgerStore], LedgerStore] = {}

    @classmethod
    def at(cls, url: str) -> Self:
        """Return the ledger at a database URL: `sqlite:///PATH` or `postgresql+psycopg://…`."""
        engine, volatile = connect(url), connect(url, durable=False)
        lose_together(engine, volatile)
        return cls(engine, volatile)

    @property
    def engine(self) -> Engine:
        """Return the engine, for migrations and for reading in tests."""
        return self._engine

    def of(self, store: type[S]) -> S:
        """Return the store of this class for this ledger, such as `ledger.of(Batches)`: the same at each call."""
        found = self._stores.get(store)
        if found is None:
            found = self._stores.setdefault(store, store(self))
        assert isinstance(found, store)  # noqa: S101 - for the type checker
        return found

    def tell_of_changes(self, callback: Callable[[], object]) -> None:
        """Call this, on the thread of the writer, whenever a transaction of ours has changed what workers follow."""
        listen(self._engine, callback)

    def close(self) -> None:
        """Close all connections."""
        self._single.close()
        self._single_volatile.close()
        self._engine.dispose()
        self._volatile.dispose()


class LedgerStore:
    """The tables of one feature in a ledger. Subclasses give each transaction a method; instances are thread-safe.

    `_engine` loses nothing that it committed. `_volatile` is faster, and a crash of the database may forget what it
    wrote last. `_single` runs single statements in no transaction. See transactions.py for methods that are one
    transaction, or one statement.
    """

    def __init__(self, engines: Engines) -> None:
        self._engine = engines._engine
        self._volatile = engines._volatile
        self._single = engines._single
        self._single_volatile = engines._single_volatile
