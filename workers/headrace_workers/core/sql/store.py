"""The two ways into the ledger's database, and stores: each method is one transaction or one statement."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from sqlalchemy import Connection, Engine

from headrace_workers.core.sql.database import connect, listen, lose_together, reading, writing
from headrace_workers.core.sql.statements import SingleStatements

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
        ledger_store = self._stores.get(store)
        if ledger_store is None:
            ledger_store = self._stores.setdefault(store, store(self))
        assert isinstance(ledger_store, store)  # noqa: S101 - for the type checker
        return ledger_store

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
    wrote last. `_single` runs single statements in no transaction. See `durable` for methods that are one
    transaction, or one statement.
    """

    def __init__(self, engines: Engines) -> None:
        self._engine = engines._engine
        self._volatile = engines._volatile
        self._single = engines._single
        self._single_volatile = engines._single_volatile


# Methods that are one transaction or one statement each, made from functions that take a connection first.
#
#     class ApiKeys(LedgerStore):
#         revoke = durable(api_keys.revoke)  # revoke(connection, key_id) -> bool
#
# gives `ApiKeys.revoke(key_id)`. The name of the kind says what a method does: one that is `durable` writes, and loses
# nothing that it committed; one that is `volatile` writes faster, and a crash of the database may forget it; `reads`
# and `reads_volatile` only read. A method whose name begins with `single` is one statement in no transaction.

P = ParamSpec("P")
R = TypeVar("R")
_InTransaction = Callable[Concatenate[Connection, P], R]
_Alone = Callable[Concatenate[Connection | SingleStatements, P], R]


class Transaction(Generic[P, R]):
    """A method that runs a function in what `begin` opens: a transaction, or a connection without one."""

    def __init__(
        self,
        function: Callable[Concatenate[Any, P], R],
        begin: Callable[[Engines | LedgerStore], AbstractContextManager[Connection | SingleStatements]],
    ) -> None:
        self._function = function
        self._begin = begin
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, of: None, owner: Any) -> Self: ...

    @overload
    def __get__(self, of: Engines | LedgerStore, owner: Any) -> Callable[P, R]: ...

    def __get__(self, of: Engines | LedgerStore | None, owner: Any) -> Self | Callable[P, R]:
        if of is None:
            return self

        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._begin(of) as where:
                return self._function(where, *args, **kwargs)

        return run


def durable(function: _InTransaction[P, R]) -> Transaction[P, R]:
    """Return a method that runs `function` in a transaction that is not lost once it is committed."""
    return Transaction(function, lambda of: writing(of._engine))


def volatile(function: _InTransaction[P, R]) -> Transaction[P, R]:
    """Return a method that runs `function` in a transaction that a crash of the database may forget."""
    return Transaction(function, lambda of: writing(of._volatile))


def reads(function: _InTransaction[P, R]) -> Transaction[P, R]:
    """Return a method that runs `function`, which only reads."""
    return Transaction(function, lambda of: reading(of._engine))


def reads_volatile(function: _InTransaction[P, R]) -> Transaction[P, R]:
    """Return a method that runs `function`, which only reads, on the faster engine."""
    return Transaction(function, lambda of: reading(of._volatile))


def single_read(function: _Alone[P, R]) -> Transaction[P, R]:
    """Return a method that runs `function`, which reads by one statement."""
    return Transaction(function, lambda of: nullcontext(of._single))


def single_durable(function: _Alone[P, R]) -> Transaction[P, R]:
    """Return a method that runs `function`, which writes by one statement on PostgreSQL; the write is not lost."""
    return Transaction(function, lambda of: of._single.writing())


def single_volatile(function: _Alone[P, R]) -> Transaction[P, R]:
    """Return a method that runs `function`, which writes by one statement on PostgreSQL; a crash may forget it."""
    return Transaction(function, lambda of: of._single_volatile.writing())
