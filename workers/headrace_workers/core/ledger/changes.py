"""The change feed: features record which of their rows changed, and workers follow the feed in an order that skips
none. PostgreSQL gives numbers before commits: a reader of "greater than the last that I saw" skips rows that a slow
writer commits later. So changes are in the order of `(transaction, number)`, and a reader gets only those whose
transaction is older than every transaction that still runs. A writer that does not end delays followers; nothing is
lost.

A kind of change is a name that a feature chooses: see `Feature.change_kinds`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    ScalarSelect,
    and_,
    func,
    not_,
    or_,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from headrace_workers.core.feature import installed
from headrace_workers.core.sql.database import now_ms, tell
from headrace_workers.core.sql.delete_some import delete_some
from headrace_workers.core.tables import CHANGES, NEVER


class this_transaction(FunctionElement[int]):
    """The number of the transaction that runs; on SQLite, which has one writer at a time, 0."""

    type = BigInteger()
    inherit_cache = True


class oldest_transaction(FunctionElement[int]):
    """Return the number of the oldest transaction that runs: all with lower numbers have ended."""

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
    """Position of a follower in the change feed."""

    xact: int
    number: int


BEFORE_ALL: Final = Position(-1, 0)


class Mark(NamedTuple):
    """A change with all columns that identify it, so that a follower can check that the change is still there."""

    xact: int
    number: int
    subject: int
    at: int

    @property
    def position(self) -> Position:
        """Return the position of the change."""
        return Position(self.xact, self.number)


MARK: Final = (CHANGES.c.xact, CHANGES.c.number, CHANGES.c.subject, CHANGES.c.at)


def note(connection: Connection, ids: Sequence[int], kind: str) -> None:
    """Write that these rows of a kind changed in this transaction; its commit wakes followers: see
    `Engines.tell_of_changes`.
    """
    if ids:
        tell(connection)
        statement = CHANGES.insert().values(xact=this_transaction(), kind=kind, at=now_ms())
        connection.execute(statement, [{"subject": each} for each in ids])


def follow(
    connection: Connection,
    kind: str,
    after: Position,
    limit: int,
    columns: Sequence[Column[Any]],
    where: ColumnElement[bool],
) -> Iterator[tuple[Mark, Row[Any]]]:
    """Return the changes of a kind after a position, in order, each with these columns of the row as it is now.

    The columns are NULL where no row of their table satisfies `where`, which joins it to CHANGES. They follow the
    columns of MARK. Changes are kept for `KEPT_MS`: a follower that pauses for longer reads everything anew.
    """
    query = (
        select(*MARK, *columns)
        .select_from(CHANGES.outerjoin(columns[0].table, where))
        .where(CHANGES.c.kind == kind, _later(after), CHANGES.c.xact < oldest_transaction())
        .order_by(CHANGES.c.xact, CHANGES.c.number)
        .limit(limit)
    )
    return ((mark_of(row), row) for row in connection.execute(query))


def mark_of(row: Any) -> Mark:
    """Return the mark of a change of which the columns MARK were read first."""
    return Mark(*row[: len(MARK)])


def _later(position: Position, changes: FromClause = CHANGES) -> ColumnElement[bool]:
    later = and_(changes.c.xact == position.xact, changes.c.number > position.number)
    return or_(changes.c.xact > position.xact, later)


def horizon(connection: Connection) -> Position:
    """Return the position up to which everything that is read from now on has all changes."""
    if connection.dialect.name == "postgresql":
        return Position(int(connection.execute(select(oldest_transaction())).scalar_one()) - 1, NEVER)
    return Position(0, int(connection.execute(select(func.coalesce(func.max(CHANGES.c.number), 0))).scalar_one()))


def mark(connection: Connection, up_to: Position, kind: str) -> Mark | None:
    """Return the last change of a kind up to a position; None if there is none."""
    row = connection.execute(
        select(*MARK)
        .where(CHANGES.c.kind == kind, not_(_later(up_to)))
        .order_by(CHANGES.c.xact.desc(), CHANGES.c.number.desc())
        .limit(1)
    ).first()
    return None if row is None else Mark._make(row)


def stands(connection: Connection, mark: Mark, kind: str) -> bool:
    """Return True if a follower may go on from this change: it is there as it was, and so is every later one.

    That is false after `KEPT_MS`, and in another or a restored ledger, where numbers begin anew.
    """
    same = and_(*(column == value for column, value in zip(MARK, mark, strict=True)), CHANGES.c.kind == kind)
    # Changes are forgotten by their time, in which they need not be in order: so one is believed for half of it alone,
    # unless nothing came later. The last is not forgotten.
    fresh = CHANGES.c.at > now_ms() - KEPT_MS // 2
    others = CHANGES.alias("later")
    later = select(others.c.number).where(others.c.kind == kind, _later(mark.position, others))
    found = select(CHANGES.c.number).where(same, or_(fresh, ~later.exists()))
    return bool(connection.execute(select(found.exists())).scalar_one())


def forget(connection: Connection) -> bool:
    """Forget changes that are older than `KEPT_MS`, a bounded number; return True if there may be more.

    The last change of each kind stays: a follower that took it in may go on from it, however long nothing changes.
    """
    last = [newest(kind) for feature in installed() for kind in feature.change_kinds]
    return delete_some(
        connection, CHANGES.c.number, (CHANGES.c.at < now_ms() - KEPT_MS) & CHANGES.c.number.not_in(last)
    )


def newest(kind: str) -> ScalarSelect[Any]:
    """Return the number of the last change of a kind, as a subquery; 0 if there is none."""
    last = CHANGES.alias(f"last_{kind}")
    number = (
        select(last.c.number).where(last.c.kind == kind).order_by(last.c.xact.desc(), last.c.number.desc()).limit(1)
    )
    return select(func.coalesce(number.scalar_subquery(), 0)).scalar_subquery()
