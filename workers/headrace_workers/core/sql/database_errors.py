"""Errors of databases by their meaning: unavailable now (`Unavailable`), no writes now (`Unwritable`), wrong user
(`NotAdmitted`), and never possible (`LedgerRefused`).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from headrace_schemas.errors import HeadraceError, Unavailable

# SQLSTATE classes and codes that say "not now": https://www.postgresql.org/docs/current/errcodes-appendix.html
_NOT_NOW_CLASSES = frozenset({"08", "40", "53", "57", "58"})  # connection, rollback, resources, operator, system
_NOT_NOW = frozenset({"25006", "25P03", "25P04", "55P03"})  # read-only, idle too long, took too long, locked
# After these the server that answers is not the one that we need, or does not want us: what is pooled leads there too.
_ELSEWHERE = frozenset({"25006", "57P01", "57P02", "57P03"})
# Reasons that prevent writes, by SQLSTATE and by the beginning of SQLite's own names.
_READ_ONLY = "the ledger is read-only: let its database be written again"
_FULL = "the ledger's disk is full: make room on it"
_LOCKED = "the ledger is locked by another process that writes: it goes on when that one has ended"
_UNWRITABLE = {"25006": _READ_ONLY, "53100": _FULL, "55P03": _LOCKED}
_UNWRITABLE_SQLITE = {
    "SQLITE_READONLY": _READ_ONLY, "SQLITE_FULL": _FULL, "SQLITE_BUSY": _LOCKED, "SQLITE_LOCKED": _LOCKED,
}  # fmt: skip
# The server is there, and knows us not (invalid authorization; invalid catalog name): in its words, too, as libpq tells
# no code of a connection that was not made.
_SHUT_OUT_CLASSES = frozenset({"28"})
_NO_SUCH_DATABASE = "3D000"
_SHUT_OUT_WORDS = re.compile(
    r"FATAL:\s+(?:(?:password|\S+) authentication failed for user|no pg_hba\.conf entry for|pg_hba\.conf rejects|"
    r'role ".*" does not exist|role ".*" is not permitted to log in|database ".*" does not exist|'
    r"permission denied for database)|fe_sendauth: no password supplied"
)


class NotAdmitted(Unavailable):
    """The database's server answers, but does not let us in. While we run that may pass, such as a password that is
    being changed; at the start of a process it is for people to mend."""


class Unwritable(Unavailable):
    """The database answers, and takes no writes for now. `plain` says why in words that anybody may read."""

    def __init__(self, plain: str, detail: str) -> None:
        super().__init__(f"{plain} ({detail})")
        self.plain = plain


class LedgerRefused(HeadraceError):
    """The database will never run this statement: a fault in this program or in its tables."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise headrace's errors in place of the database's errors in the body, without users' texts."""
    try:
        yield
    except PoolExhausted as error:
        raise Unavailable("the ledger's connections are all in use") from error
    except DBAPIError as error:
        if _shut_out(error):
            words = _brief(error).rpartition("FATAL: ")[2].strip()
            raise NotAdmitted(
                f"the ledger's server does not let us in: {words}; correct the user, the password or the database in "
                "HEADRACE_LEDGER, or what the server allows"
            ) from None
        if (plain := _unwritable(error)) is not None:
            raise Unwritable(plain, _brief(error)) from None
        if _not_now(error):
            raise Unavailable(f"the ledger did not answer: {_brief(error)}") from None
        # The driver's own error may quote a row, and a row holds users' texts: it goes into no log.
        refused = LedgerRefused(f"the ledger refused a statement, which is a fault in headrace: {_brief(error)}")
        raise refused.with_traceback(error.__traceback__) from None


def _not_now(error: DBAPIError) -> bool:
    """Return True if the same transaction may succeed later."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return (
        isinstance(error, OperationalError | InterfaceError)
        or error.connection_invalidated
        or state[:2] in _NOT_NOW_CLASSES
        or state in _NOT_NOW
    )


def _unwritable(error: DBAPIError) -> str | None:
    """Return why the database takes no writes, in our words, if that is what it says."""
    state = _UNWRITABLE.get(getattr(error.orig, "sqlstate", None) or "")
    name = getattr(error.orig, "sqlite_errorname", "")
    return state or next((words for known, words in _UNWRITABLE_SQLITE.items() if name.startswith(known)), None)


def leads_elsewhere(error: BaseException) -> bool:
    """Return whether the server that said this is none that we can use, now or for good: all that is pooled leads
    there.
    """
    return getattr(error, "sqlstate", None) in _ELSEWHERE


def _shut_out(error: DBAPIError) -> bool:
    """Return True if the server refused the connection. While a connection is made the driver knows no SQLSTATE."""
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state[:2] in _SHUT_OUT_CLASSES or state == _NO_SUCH_DATABASE
    return isinstance(error, OperationalError) and _SHUT_OUT_WORDS.search(str(error.orig or "")) is not None


def _brief(error: DBAPIError) -> str:
    """Return the driver's own words, without the statement, its parameters, and the row, which may hold users'
    texts.
    """
    primary = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    words = primary or str(error.orig or "").strip()
    return words.splitlines()[0][:300] if words else type(error).__name__
