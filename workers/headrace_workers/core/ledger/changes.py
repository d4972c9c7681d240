"""The order in which workers follow changes of entries and of documents, so that none is passed over.

PostgreSQL gives numbers before commits: whoever reads "greater than the last that I saw" passes over what a slow writer
commits later. So changes are in the order of `(transaction, number)`, and only those are read whose transaction is
older than every one that still runs. A writer that does not end holds followers up; nothing is lost by that.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, FromClause, ScalarSelect, and_, func, not_, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from headrace_workers.core.sql.database import among, now_ms, tell
from headrace_workers.core.tables import NEVER
from headrace_workers.features.cache.tables import CHANGES, DOCUMENTS, ENTRIES


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


class Mark(NamedTuple):
    """A change, by all that tells it from another: whoever has followed so far can see whether it is still there."""

    xact: int
    number: int
    subject: int
    at: int

    @property
    def position(self) -> Position:
        """Where it stands."""
        return Position(self.xact, self.number)


class Change(NamedTuple):
    """An entry as it is now; without a vector it is not, or no longer, to be looked up by likeness."""

    mark: Mark
    entry_id: int
    scope: str | None
    question: str | None
    vector: bytes | None
    making: bool  # its answer is not there yet

    @property
    def position(self) -> Position:
        """Where it stands."""
        return self.mark.position


class DocumentChange(NamedTuple):
    """A document as it is now, and whose; without a tenant it is no more."""

    mark: Mark
    document_id: int
    tenant: str | None
    knowledge: str | None

    @property
    def position(self) -> Position:
        """Where it stands."""
        return self.mark.position


Kind = Literal["entry", "document"]


def note(connection: Connection, ids: Sequence[int], kind: Kind = "entry") -> None:
    """Write that these entries, or documents, changed in this transaction; who follows them is told when it is
    committed: see `Engines.tell_of_changes`.
    """
    if ids:
        tell(connection)
        statement = CHANGES.insert().values(xact=this_transaction(), kind=kind, at=now_ms())
        connection.execute(statement, [{"subject": each} for each in ids])


def follow(connection: Connection, after: Position, limit: int) -> list[Change]:
    """What changed of entries after a position, in order, each with what the entry is now.

    Changes are kept for `KEPT_MS`: who has not followed for longer begins anew.
    """
    findable = and_(ENTRIES.c.id == CHANGES.c.subject, ENTRIES.c.state.in_(("live", "pending")))
    query = (
        select(*_MARK, ENTRIES.c.scope, ENTRIES.c.question, ENTRIES.c.vector, ENTRIES.c.state)
        .select_from(CHANGES.outerjoin(ENTRIES, findable))
        .where(_after(after, "entry"))
        .order_by(CHANGES.c.xact, CHANGES.c.number)
        .limit(limit)
    )
    return [_change(row) for row in connection.execute(query)]


def lately(connection: Connection, after: int, scopes: Collection[str], limit: int) -> list[Change]:
    """What is new in these scopes since the change of this number, the latest first, in whatever order it came.

    For a look, not for following: what a slow writer has yet to commit may be missing, and what is here may be among
    what was followed.
    """
    query = (
        select(*_MARK, ENTRIES.c.scope, ENTRIES.c.question, ENTRIES.c.vector, ENTRIES.c.state)
        .select_from(CHANGES.join(ENTRIES, ENTRIES.c.id == CHANGES.c.subject))
        .where(
            CHANGES.c.number > after,
            CHANGES.c.kind == "entry",
            ENTRIES.c.state.in_(("live", "pending")),
            ENTRIES.c.vector.is_not(None),
            among(connection, ENTRIES.c.scope, sorted(scopes)),
        )
        .order_by(CHANGES.c.number.desc())
        .limit(limit)
    )
    return [_change(row) for row in connection.execute(query)]


_MARK: Final = (CHANGES.c.xact, CHANGES.c.number, CHANGES.c.subject, CHANGES.c.at)


def _change(row: Any) -> Change:
    return Change(Mark(*row[: len(_MARK)]), row.subject, row.scope, row.question, row.vector, row.state == "pending")


def follow_documents(connection: Connection, after: Position, limit: int) -> list[DocumentChange]:
    """What changed of documents after a position, in order, each with whose the document is now. Kept as entries'."""
    query = (
        select(*_MARK, DOCUMENTS.c.tenant, DOCUMENTS.c.knowledge)
        .select_from(CHANGES.outerjoin(DOCUMENTS, DOCUMENTS.c.id == CHANGES.c.subject))
        .where(_after(after, "document"))
        .order_by(CHANGES.c.xact, CHANGES.c.number)
        .limit(limit)
    )
    return [
        DocumentChange(Mark(*row[: len(_MARK)]), row.subject, row.tenant, row.knowledge)
        for row in connection.execute(query)
    ]


def _after(position: Position, kind: Kind) -> ColumnElement[bool]:
    return and_(CHANGES.c.kind == kind, _later(position), CHANGES.c.xact < oldest_transaction())


def _later(position: Position, changes: FromClause = CHANGES) -> ColumnElement[bool]:
    later = and_(changes.c.xact == position.xact, changes.c.number > position.number)
    return or_(changes.c.xact > position.xact, later)


def horizon(connection: Connection) -> Position:
    """Whatever is read from now on holds all changes up to this position."""
    if connection.dialect.name == "postgresql":
        return Position(int(connection.execute(select(oldest_transaction())).scalar_one()) - 1, NEVER)
    return Position(0, int(connection.execute(select(func.coalesce(func.max(CHANGES.c.number), 0))).scalar_one()))


def mark(connection: Connection, up_to: Position, kind: Kind = "entry") -> Mark | None:
    """The last change of a kind up to a position; None where there is none."""
    row = connection.execute(
        select(*_MARK)
        .where(CHANGES.c.kind == kind, not_(_later(up_to)))
        .order_by(CHANGES.c.xact.desc(), CHANGES.c.number.desc())
        .limit(1)
    ).first()
    return None if row is None else Mark._make(row)


def stands(connection: Connection, mark: Mark, kind: Kind = "entry") -> bool:
    """Whether who has followed up to there may go on: that change is there as it was, and so is all that came later.

    It is not after `KEPT_MS`, nor in another ledger, or in this one as it was restored: numbers begin there anew.
    """
    same = and_(*(column == value for column, value in zip(_MARK, mark, strict=True)), CHANGES.c.kind == kind)
    # Changes are forgotten by their time, in which they need not be in order: so one is believed for half of it alone,
    # unless nothing came later. The last is not forgotten.
    fresh = CHANGES.c.at > now_ms() - KEPT_MS // 2
    others = CHANGES.alias("later")
    later = select(others.c.number).where(others.c.kind == kind, _later(mark.position, others))
    found = select(CHANGES.c.number).where(same, or_(fresh, ~later.exists()))
    return bool(connection.execute(select(found.exists())).scalar_one())


def newest(kind: Kind) -> ScalarSelect[Any]:
    """The number of the last change of a kind; 0 where there is none."""
    last = CHANGES.alias(f"last_{kind}")
    number = (
        select(last.c.number).where(last.c.kind == kind).order_by(last.c.xact.desc(), last.c.number.desc()).limit(1)
    )
    return select(func.coalesce(number.scalar_subquery(), 0)).scalar_subquery()
