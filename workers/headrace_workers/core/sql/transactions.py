"""Methods that are one transaction or one statement each, made from functions that take a connection first.

    class ApiKeys(LedgerStore):
        revoke = durable(api_keys.revoke)  # revoke(connection, key_id) -> bool

gives `ApiKeys.revoke(key_id)`. The name of the kind says what a method does: one that is `durable` writes, and loses
nothing that it committed; one that is `volatile` writes faster, and a crash of the database may forget it; `reads` and
`reads_volatile` only read. A method whose name begins with `single` is one statement in no transaction.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from sqlalchemy import Connection

from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.sql.engines import Engines, LedgerStore
from headrace_workers.core.sql.single_statements import SingleStatements

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
