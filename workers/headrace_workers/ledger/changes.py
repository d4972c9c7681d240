"""The order in which workers follow changes of entries and of documents, so that none is passed over.

PostgreSQL gives numbers before commits: whoever reads "greater than the last that I saw" passes over what a slow writer
commits later. So changes are in the order of `(transaction, number)`, and only those are read whose transaction is
older than every one that still runs. A writer that does not end holds followers up; nothing is lost by that.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, and_, func, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from headrace_workers.ledger.database import now_ms
from headrace_workers.ledger.recall_tables import CHANGES, DOCUMENTS, ENTRIES
from headrace_workers.ledger.tables import NEVER


class this_transaction(FunctionElement[int]):
    """The number of the transaction that runs; on SQLite, which has one writer at a time, 0."""

    type = BigInteger()
    inherit_cache = True


class oldest_transaction(FunctionElement[int]):
    """All transactions with lower numbers have ended."""

    type = BigInteger()
    inherit_cache = True


@compiles(this_transaction, "postgresql")
def _this_postgresql(_element: Any, _compiler: Any, **_: Any) -> str:
    return "CAST(CAST(pg_current_xact_id() AS text) AS bigint)"


@compiles(this_transaction, "sqlite")
def _this_sqlite(_element: Any, _compiler: Any, **_: Any) -> str:
    return "0"


@compiles(oldest_transaction, "postgresql")
def _oldest_postgresql(_element: Any, _compiler: Any, **_: Any) -> str:
    return "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)"


@compiles(oldest_transaction, "sqlite")
def _oldest_sqlite(_element: Any, _compiler: Any, **_: Any) -> str:
    return "1"


KEPT_MS: Final = 86_400_000


class Position(NamedTuple):
    """How far a follower is."""

    xact: int
    number: int


BEFORE_ALL: Final = Position(-1, 0)


class Change(NamedTuple):
    """An entry as it is now; without a vector it is not, or no longer, to be looked up by likeness."""

    position: Position
    entry_id: int
    scope: str | None
    question: str | None
    vector: bytes | None


class DocumentChange(NamedTuple):
    """A document as it is now, and whose; without a tenant it is no more."""

    position: Position
    document_id: int
    tenant: str | None
    knowledge: str | None


Kind = Literal["entry", "document"]


def note(connection: Connection, ids: Sequence[int], kind: Kind = "entry") -> None:
    """Write that these entries, or documents, changed in this transaction."""
    if ids:
        statement = CHANGES.insert().values(xact=this_transaction(), kind=kind, at=now_ms())
        connection.execute(statement, [{"subject": each} for each in ids])


def follow(connection: Connection, after: Position, limit: int) -> list[Change]:
    """What changed of entries after a position, in order, each with what the entry is now.

    Changes are kept for `KEPT_MS`: who has not followed for longer begins anew.
    """
    living = and_(ENTRIES.c.id == CHANGES.c.subject, ENTRIES.c.state == "live")
    query = (
        select(
            CHANGES.c.xact, CHANGES.c.number, CHANGES.c.subject, ENTRIES.c.scope, ENTRIES.c.question, ENTRIES.c.vector
        )
        .select_from(CHANGES.outerjoin(ENTRIES, living))
        .where(_after(after, "entry"))
        .order_by(CHANGES.c.xact, CHANGES.c.number)
        .limit(limit)
    )
    return [
        Change(Position(row.xact, row.number), row.subject, row.scope, row.question, row.vector)
        for row in connection.execute(query)
    ]


def follow_documents(connection: Connection, after: Position, limit: int) -> list[DocumentChange]:
    """What changed of documents after a position, in order, each with whose the document is now. Kept as entries'."""
    query = (
        select(CHANGES.c.xact, CHANGES.c.number, CHANGES.c.subject, DOCUMENTS.c.tenant, DOCUMENTS.c.knowledge)
        .select_from(CHANGES.outerjoin(DOCUMENTS, DOCUMENTS.c.id == CHANGES.c.subject))
        .where(_after(after, "document"))
        .order_by(CHANGES.c.xact, CHANGES.c.number)
        .limit(limit)
    )
    return [
        DocumentChange(Position(row.xact, row.number), row.subject, row.tenant, row.knowledge)
        for row in connection.execute(query)
    ]


def _after(position: Position, kind: Kind) -> ColumnElement[bool]:
    later = and_(CHANGES.c.xact == position.xact, CHANGES.c.number > position.number)
    return and_(
        CHANGES.c.kind == kind, or_(CHANGES.c.xact > position.xact, later), CHANGES.c.xact < oldest_transaction()
    )


def horizon(connection: Connection) -> Position:
    """Whatever is read from now on holds all changes up to this position."""
    if connection.dialect.name == "postgresql":
        return Position(int(connection.execute(select(oldest_transaction())).scalar_one()) - 1, NEVER)
    return Position(0, int(connection.execute(select(func.coalesce(func.max(CHANGES.c.number), 0))).scalar_one()))
