"""The change feed: features record which of their rows changed, and workers follow the feed in an order that skips
none. PostgreSQL gives numbers before commits: a reader of "greater than the last that I saw" skips rows that a slow
writer commits later. So changes are in the order of `(transaction, number)`, and a reader gets only those whose
transaction is older than every transaction that still runs. A writer that does not end delays followers; nothing is
lost.

A kind of change is a name that a feature chooses: see `Feature.change_kinds`.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    ScalarSelect,
    and_,
    bindparam,
    delete,
    func,
    not_,
    or_,
    select,
    tuple_,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from headrace_schemas.errors import Unavailable
from headrace_workers.core.feature import installed
from headrace_workers.core.outage import KeepsGoing
from headrace_workers.core.progress import Loop
from headrace_workers.core.sql.database import insert, now_ms, tell
from headrace_workers.core.sql.paging import delete_some
from headrace_workers.core.sql.statements import SingleStatements, rows_of
from headrace_workers.core.tables import CHANGES, FOLLOWERS, NEVER


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
        connection.execute(statement, [{"subject": number} for number in ids])


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


def forget_changes(connection: Connection) -> bool:
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


_STALE_MS: Final = 60_000  # a follower that has not reported for so long is gone


@dataclass(frozen=True, slots=True)
class FollowerState:
    """The changes of one kind that one process has not taken in yet: how many, and the age (ms) of the oldest."""

    holder: str
    kind: str
    behind: int
    lag_ms: int


def report_position(where: Connection | SingleStatements, holder: str, kind: str, position: Position) -> None:
    """Report how far this follower is."""
    row = {"holder": holder, "kind": kind, "xact": position.xact, "number": position.number}
    rows_of(where, _report(where.dialect.name), row)


@lru_cache
def _report(dialect: str) -> Any:
    row = insert(dialect, FOLLOWERS).values(
        {name: bindparam(name) for name in ("holder", "kind", "xact", "number")} | {"seen_at": now_ms()}
    )
    now = {name: row.excluded[name] for name in ("xact", "number", "seen_at")}
    return row.on_conflict_do_update(index_elements=["holder", "kind"], set_=now)


def follower_positions(connection: Connection) -> list[FollowerState]:
    """Return the followers that reported in the last minute, by name."""
    ahead = and_(
        CHANGES.c.kind == FOLLOWERS.c.kind,
        tuple_(CHANGES.c.xact, CHANGES.c.number) > tuple_(FOLLOWERS.c.xact, FOLLOWERS.c.number),
    )
    query = (
        select(
            FOLLOWERS.c.holder,
            FOLLOWERS.c.kind,
            func.count(CHANGES.c.number).label("behind"),
            func.coalesce(now_ms() - func.min(CHANGES.c.at), 0).label("lag"),
        )
        .select_from(FOLLOWERS.outerjoin(CHANGES, ahead))
        .where(FOLLOWERS.c.seen_at > now_ms() - _STALE_MS)
        .group_by(FOLLOWERS.c.holder, FOLLOWERS.c.kind)
        .order_by(FOLLOWERS.c.holder, FOLLOWERS.c.kind)
    )
    return [FollowerState(row.holder, row.kind, row.behind, max(0, row.lag)) for row in connection.execute(query)]


def forget_positions(connection: Connection) -> None:
    """Remove the followers that have not reported for long."""
    connection.execute(delete(FOLLOWERS).where(FOLLOWERS.c.seen_at <= now_ms() - _STALE_MS))


# Following the ledger: memory holds the ledger's state of a moment ago. A follower looks when it is woken, and twice a
# second by itself: a lost hint costs that half second.

_REST = 0.5  # s between two looks, where nobody wakes it
# s to the look after one that it was woken for, then twice as long each time: of what was written, PostgreSQL shows
# nothing here as long as an older transaction goes on.
_AGAIN = 0.005
_GATHER, _LONGEST_GATHER, _SHARE = 0.002, 0.1, 4  # what comes together costs one look: of its time, so often it rests
_TELL_EVERY = 5.0  # s
_AT_ONCE = 1_000
TOO_LONG = KEPT_MS / 1000 / 2  # s without a look: changes may have been forgotten since


class _Change(Protocol):
    @property
    def position(self) -> Position:
        """Its place in the order of changes."""


Change = TypeVar("Change", bound=_Change)


class Memory(Protocol[Change]):
    """The part of the ledger that is in memory, kept up by one kind of change. Each method may raise Unavailable, with
    the ledger.
    """

    def begin(self, loop: Loop) -> Position:
        """Forget all, and read anew what is needed: from this position on it is to be kept up."""

    def changed(self, after: Position, limit: int) -> Sequence[Change]:
        """Return what changed after a position, in order."""

    def take_in(self, changes: Sequence[Change], loop: Loop) -> None:
        """Be as the ledger is after these; again the same changes nothing."""

    def tidy(self) -> None:
        """Do what can wait; it may take seconds."""

    def idle(self) -> bool:
        """Return True if nothing is held and nobody has asked for long: then nothing is followed until somebody
        asks.
        """

    def holds(self) -> bool:
        """The ledger was away: whether it is still what this was read from, and not one that was restored."""


class Follower(KeepsGoing, Generic[Change]):
    """Keeps a memory like the ledger, from a thread of its own."""

    def __init__(
        self,
        memory: Memory[Change],
        loop: Loop,
        tell: Callable[[Position], None] | None = None,
        rest: float = _REST,
    ) -> None:
        """`tell` is called every few seconds with the follower's position; it may raise Unavailable, as the ledger
        does. `rest`: seconds between two looks, where nobody wakes it.
        """
        super().__init__(loop)
        self.woken = threading.Event()  # set it, and it looks
        self._rest = self._pause = rest
        self._memory = memory
        self._position: Position | None = None
        self._looked = 0.0
        self._was_away = False
        self._tell = tell
        self._reported_at = -_TELL_EVERY

    def once(self) -> int:
        """Take in all that has changed since the last look; how many changes. Unavailable with the ledger."""
        try:
            return self._once()
        except Unavailable:
            self._was_away = True
            raise

    def _once(self) -> int:
        if self._memory.idle():
            self._position = None  # tenants that are asked for later are followed from then on
            return 0
        if self._position is None or self._is_to_begin():
            self._position = None
            self._position = self._memory.begin(self._progress)
        self._was_away = False
        taken = 0
        while changes := self._memory.changed(self._position, _AT_ONCE):
            self._memory.take_in(changes, self._progress)
            taken += len(changes)
            self._position = changes[-1].position
            if len(changes) < _AT_ONCE:
                break
            self._progress.beat()
        self._looked = time.monotonic()
        return taken

    def _say_how_far(self) -> None:
        now = time.monotonic()
        if self._tell is not None and self._position is not None and now - self._reported_at >= _TELL_EVERY:
            self._reported_at = now
            self._tell(self._position)

    def _is_to_begin(self) -> bool:
        if time.monotonic() - self._looked > TOO_LONG:
            return True
        return self._was_away and not self._memory.holds()

    def stop(self, seconds: float | None = None) -> None:
        """Follow no more, and wait until that is so, for so many seconds at most."""
        self._stop.set()
        self.woken.set()
        super().stop(seconds)

    def _look(self) -> None:
        self.woken.clear()
        began = time.monotonic()
        self.once()
        took = time.monotonic() - began
        self._say_how_far()
        with self._progress.excused():
            self._memory.tidy()
        self._stop.wait(min(_LONGEST_GATHER, max(_GATHER, _SHARE * took)))
        self._pause = _AGAIN if self.woken.wait(self._pause) else min(self._rest, 2 * self._pause)
