"""Methods that are one transaction each, made from functions that take a connection first.

    class ApiKeys(LedgerStore):
        revoke = durable(api_keys.revoke)  # revoke(connection, key_id) -> bool

gives `ApiKeys.revoke(key_id)`. The name of the kind says what the transaction is: `durable` loses nothing that it
committed, `volatile` is faster and a crash of the database may forget it, `reads` and `reads_volatile` only read, and
`brief_durable` and `brief_volatile` write by what is one statement on PostgreSQL.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from sqlalchemy import Connection, Engine

from headrace_workers.core.sql.database import brief, reading, writing
from headrace_workers.core.sql.engines import Engines, LedgerStore

P = ParamSpec("P")
R = TypeVar("R")
_Begin = Callable[[Engine], AbstractContextManager[Connection]]


class Transaction(Generic[P, R]):
    """A method that runs a function in a transaction of its own."""

    def __init__(self, function: Callable[Concatenate[Connection, P], R], begin: _Begin, *, durable: bool) -> None:
        self._function = function
        self._begin = begin
        self._durable = durable
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, of: None, owner: Any) -> Self: ...

    @overload
    def __get__(self, of: Engines | LedgerStore, owner: Any) -> Callable[P, R]: ...

    def __get__(self, of: Engines | LedgerStore | None, owner: Any) -> Self | Callable[P, R]:
        if of is None:
            return self
        engine = of._engine if self._durable else of._volatile

        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._begin(engine) as connection:
                return self._function(connection, *args, **kwargs)

        return run


def durable(function: Callable[Concatenate[Connection, P], R]) -> Transaction[P, R]:
    """Return a method that runs `function` in a transaction that is not lost once it is committed."""
    return Transaction(function, writing, durable=True)


def volatile(function: Callable[Concatenate[Connection, P], R]) -> Transaction[P, R]:
    """Return a method that runs `function` in a transaction that a crash of the database may forget."""
    return Transaction(function, writing, durable=False)


def reads(function: Callable[Concatenate[Connection, P], R]) -> Transaction[P, R]:
    """Return a method that runs `function`, which only reads."""
    return Transaction(function, reading, durable=True)


def reads_volatile(function: Callable[Concatenate[Connection, P], R]) -> Transaction[P, R]:
    """Return a method that runs `function`, which only reads, on the faster engine."""
    return Transaction(function, reading, durable=False)


def brief_durable(function: Callable[Concatenate[Connection, P], R]) -> Transaction[P, R]:
    """Return a method that runs `function`, which is one statement on PostgreSQL, and is not lost."""
    return Transaction(function, brief, durable=True)


def brief_volatile(function: Callable[Concatenate[Connection, P], R]) -> Transaction[P, R]:
    """Return a method that runs `function`, which is one statement on PostgreSQL, and may be forgotten."""
    return Transaction(function, brief, durable=False)
