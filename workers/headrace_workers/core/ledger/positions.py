"""Positions of ingest in each partition. They are written with the jobs that were read.

A position counts for one log only: a topic that was made anew, such as by a broker that keeps its log in memory, begins
at 0 again, and is read from there.

A bridge goes on from a position only if it is the one that this bridge wrote or sought last. Any other means that
another bridge reads the partition now, or that the ledger was restored from a backup: then nothing is written, and the
bridge seeks to what is stored.

Beside a position stand fingerprints: what some of the records before it were. A log that was restored from a backup has
others at their offsets, or none.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    String,
    Text,
    bindparam,
    case,
    delete,
    func,
    select,
    text,
    update,
)

from headrace_schemas.errors import HeadraceError
from headrace_workers.core.ledger.incidents import Incident
from headrace_workers.core.sql.database import clock, insert, many, now_ms
from headrace_workers.core.sql.statements import run
from headrace_workers.core.tables import POSITIONS, READERS

NOT_READ_BEFORE = -1  # `Reread.at` of a log that was made anew: it has no record that was read before
_REPORTED_MS = 86_400_000  # a log that did not match is reported for a day


class PositionsMoved(HeadraceError):
    """A stored position is not the one that this bridge wrote or sought last: nothing was written."""


@dataclass(frozen=True, slots=True, order=True)
class LogPartition:
    """A partition of one log. `topic` is Kafka's name, `log` the id that the broker gave it when it was made."""

    topic: str
    partition: int
    log: str


class Fingerprint(NamedTuple):
    """A record that was read: its offset, the leader epoch of its batch (-1: not known), its time (ms since 1970), and
    a digest of its content.
    """

    offset: int
    epoch: int
    at: int
    digest: str


@dataclass(frozen=True, slots=True)
class Reread:
    """Records that are read a second time, since their log did not match: those below the offset `below` and not
    written after `at` (ms since 1970) were read before.
    """

    below: int
    at: int


@dataclass(frozen=True, slots=True)
class Position:
    """The offset that comes next, fingerprints of records before it, oldest first, and what is read a second time."""

    next: int = 0
    fingerprints: tuple[Fingerprint, ...] = ()
    reread: Reread | None = None


@dataclass(frozen=True, slots=True)
class Advance:
    """A position that follows the one at `expected`."""

    expected: int
    to: Position


def positions(connection: Connection) -> dict[LogPartition, int]:
    """Return the offset that comes next, by place."""
    rows = connection.execute(select(POSITIONS.c.topic, POSITIONS.c.partition, POSITIONS.c.log, POSITIONS.c.next))
    return {LogPartition(row.topic, row.partition, row.log): row.next for row in rows}


def read(connection: Connection) -> dict[LogPartition, Position]:
    """Return the positions with all columns, by place."""
    return {
        LogPartition(row.topic, row.partition, row.log): Position(
            row.next,
            tuple(Fingerprint(*fingerprint) for fingerprint in json.loads(row.fingerprints or "[]")),
            None if row.back_from is None else Reread(row.back_from, row.back_before),
        )
        for row in connection.execute(select(POSITIONS))
    }


def advance(connection: Connection, following: Mapping[LogPartition, Advance]) -> None:
    """Write the position that follows in each place. Raise `PositionsMoved` where another is stored than expected.

    A place that is not stored, or is stored of another log, is at 0.
    """
    dialect = connection.dialect.name
    moved: set[tuple[str, int]] = set()
    if len(following) > 1 and dialect == "postgresql" and all(step.expected for step in following.values()):
        wanted = [_wanted(place, step) for place, step in following.items()]
        moved.update(run(connection, _MOVE_SEVERAL, many(dialect, wanted)))
    for place in sorted(following):  # in one order, so that two bridges cannot deadlock
        step = following[place]
        if (place.topic, place.partition) in moved or run(connection, _MOVE, _wanted(place, step)):
            continue
        if step.expected or not run(connection, _first(dialect), _wanted(place, step)):
            raise PositionsMoved(
                f"the ledger has another position of {place.topic}-{place.partition} than offset {step.expected}, "
                "which was read up to here: the bridge goes on from the ledger's"
            )


def _wanted(place: LogPartition, step: Advance) -> dict[str, Any]:
    return {
        "at_topic": place.topic, "at_partition": place.partition, "of_log": place.log, "to_next": step.to.next,
        "to_fingerprints": json.dumps(step.to.fingerprints, separators=(",", ":")), "expected": step.expected,
    }  # fmt: skip


def go_back(connection: Connection, place: LogPartition, expected: int, to: Position) -> None:
    """Write a position before the one at `expected`, since the log does not match what was read. `to.again` says what
    is read a second time. Raise `PositionsMoved` where another is stored than expected.
    """
    advance(connection, {place: Advance(expected, to)})
    assert to.reread is not None  # noqa: S101 - a reader that goes back knows from where
    connection.execute(
        update(POSITIONS)
        .where(POSITIONS.c.topic == place.topic, POSITIONS.c.partition == place.partition)
        .values(back_at=now_ms(), back_from=to.reread.below, back_to=to.next, back_before=to.reread.at)
    )


def report_lost(connection: Connection, lost: Mapping[LogPartition, int]) -> None:
    """Note that these places had been read up to these offsets, which the ledger does not know any more."""
    for place, offset in sorted(lost.items()):
        named = {"topic": place.topic, "partition": place.partition, "log": place.log}
        row = insert(connection, POSITIONS).values(**named, next=0, fingerprints="[]", back_at=now_ms(), back_to=offset)
        seen = {"back_at": row.excluded.back_at, "back_to": row.excluded.back_to, "back_before": None}
        mine = (POSITIONS.c.log == place.log) & POSITIONS.c.back_from.is_(None)
        connection.execute(row.on_conflict_do_update(index_elements=["topic", "partition"], set_=seen, where=mine))


def note_read(connection: Connection, places: Collection[LogPartition], until: int) -> None:
    """Note that all records are read that these places had at this time (ms)."""
    for place in sorted(places):
        here = POSITIONS.c.topic == place.topic, POSITIONS.c.partition == place.partition
        connection.execute(update(POSITIONS).where(*here, POSITIONS.c.log == place.log).values(read_until=until))


def note_ends(connection: Connection, ends: Mapping[LogPartition, int]) -> None:
    """Note the offsets at which the logs of these places ended a moment ago."""
    for place, end in sorted(ends.items()):
        here = POSITIONS.c.topic == place.topic, POSITIONS.c.partition == place.partition
        connection.execute(update(POSITIONS).where(*here, POSITIONS.c.log == place.log).values(log_end=end))


def lags(connection: Connection) -> dict[tuple[str, int], int]:
    """Return how many records of each topic and partition the ledger does not have yet, by what bridges noted last.

    Partitions that no bridge reads now are left out: nobody knows where they end.
    """
    read = POSITIONS.join(READERS, (READERS.c.name == POSITIONS.c.reader) & (READERS.c.lease_until > now_ms()))
    query = select(POSITIONS.c.topic, POSITIONS.c.partition, POSITIONS.c.log_end - POSITIONS.c.next).select_from(read)
    return {
        (topic, partition): max(0, lag)
        for topic, partition, lag in connection.execute(query.where(POSITIONS.c.log_end.is_not(None)))
    }


def read_until() -> Any:
    """Return a query for the time (ms) until which all records of all places are read; NULL without a place."""
    return select(func.min(func.coalesce(POSITIONS.c.read_until, 0))).scalar_subquery()


def incidents(connection: Connection) -> list[Incident]:
    """Return the logs that did not match what was read, and those of which the ledger lost positions, of the last
    day.
    """
    recent = POSITIONS.c.back_at > now_ms() - _REPORTED_MS
    lately = POSITIONS.c.back_from.is_not(None), recent
    lost = POSITIONS.c.back_from.is_(None), POSITIONS.c.back_before.is_(None), recent
    return [
        Incident(
            "the ledger",
            f"{row.topic}-{row.partition}",
            f"it was read up to offset {row.back_to}, and the ledger knew less: the ledger was restored from a backup, "
            "or lost its last transactions. What Kafka still has is read again: see "
            "docs/how-to/back-up-and-restore.md",
            row.back_at,
        )
        for row in connection.execute(select(POSITIONS).where(*lost).order_by(POSITIONS.c.back_at))
    ] + [
        Incident(
            "the ledger",
            f"{row.topic}-{row.partition}",
            f"the log of Kafka is not the one that was read: it was read up to offset {row.back_from}, and matches up "
            f"to {row.back_to}. It is read again from there. Kafka was restored from a backup, or lost records: see "
            "docs/how-to/back-up-and-restore.md",
            row.back_at,
        )
        for row in connection.execute(select(POSITIONS).where(*lately).order_by(POSITIONS.c.back_at))
    ]


_MOVE = (
    update(POSITIONS)
    .where(
        POSITIONS.c.topic == bindparam("at_topic", type_=String),
        POSITIONS.c.partition == bindparam("at_partition", type_=Integer),
        case((POSITIONS.c.log == bindparam("of_log", type_=String), POSITIONS.c.next), else_=0)
        == bindparam("expected", type_=BigInteger),
    )
    .values(
        log=bindparam("of_log", type_=String),
        next=bindparam("to_next", type_=BigInteger),
        fingerprints=bindparam("to_fingerprints", type_=Text),
        back_from=case((POSITIONS.c.log == bindparam("of_log", type_=String), POSITIONS.c.back_from)),
        log_end=case((POSITIONS.c.log == bindparam("of_log", type_=String), POSITIONS.c.log_end)),
    )
    .returning(POSITIONS.c.next)
)

# Of several places that are stored, on PostgreSQL. They are locked in the order in which Python sorts them.
_MOVE_SEVERAL = text("""
    WITH given AS (
        SELECT * FROM unnest(
            CAST(:at_topic AS varchar[]), CAST(:at_partition AS integer[]), CAST(:of_log AS varchar[]),
            CAST(:to_next AS bigint[]), CAST(:to_fingerprints AS text[]), CAST(:expected AS bigint[])
        ) AS given (topic, partition, log, next, fingerprints, expected)
    ),
    held AS MATERIALIZED (
        SELECT topic, partition FROM positions JOIN given USING (topic, partition)
        ORDER BY topic COLLATE "C", partition FOR UPDATE OF positions
    )
    UPDATE positions SET log = given.log, next = given.next, fingerprints = given.fingerprints,
        back_from = CASE WHEN positions.log = given.log THEN positions.back_from END,
        log_end = CASE WHEN positions.log = given.log THEN positions.log_end END
    FROM held JOIN given USING (topic, partition)
    WHERE positions.topic = held.topic AND positions.partition = held.partition
        AND CASE WHEN positions.log = given.log THEN positions.next ELSE 0 END = given.expected
    RETURNING positions.topic, positions.partition
""")


@lru_cache
def _first(dialect: str) -> Any:
    new = insert(dialect, POSITIONS).values(
        topic=bindparam("at_topic", type_=String),
        partition=bindparam("at_partition", type_=Integer),
        log=bindparam("of_log", type_=String),
        next=bindparam("to_next", type_=BigInteger),
        fingerprints=bindparam("to_fingerprints", type_=Text),
    )
    return new.on_conflict_do_nothing().returning(POSITIONS.c.next)


# Assignment of partitions to bridges: each has a fair share of every topic, held by a lease of the database's clock.
#
# A bridge signs in for a while, and again before that is over. Partitions whose reader has not are free. The places of
# a topic are shared by number, so that every bridge works out the same: nobody needs to agree with anybody. Two that
# read one place for a moment do no harm, since what is taken in twice is there once.


def share(
    connection: Connection, reader: str, places: Collection[LogPartition], lease_ms: int
) -> frozenset[LogPartition]:
    """Return the places that this reader is to read until its lease ends: the places that it keeps, and free ones."""
    living = _sign_in(connection, reader, lease_ms)
    held = _held(connection, places)
    mine: set[LogPartition] = set()
    for turn, (_, group) in enumerate(groupby(sorted(places), key=lambda place: place.topic)):
        of_topic = list(group)
        most = _fair(len(of_topic), living, reader, turn)
        kept = [place for place in of_topic if held[place] == reader]
        free = [place for place in of_topic if held[place] not in living]
        _hand(connection, kept[most:], reader, None)
        wanted = free[: max(0, most - len(kept))]
        mine.update(kept[:most], (place for place in wanted if _hand(connection, [place], held[place], reader)))
    return frozenset(mine)


def leave(connection: Connection, reader: str) -> None:
    """Release all places of this reader."""
    connection.execute(delete(READERS).where(READERS.c.name == reader))


def _sign_in(connection: Connection, reader: str, lease_ms: int) -> list[str]:
    """Return the readers that are there, this one among them, in their order."""
    now = clock(connection)
    written = insert(connection, READERS).values(name=reader, lease_until=now + lease_ms)
    connection.execute(
        written.on_conflict_do_update(index_elements=["name"], set_={"lease_until": written.excluded.lease_until})
    )
    connection.execute(delete(READERS).where(READERS.c.lease_until < now))
    return list(connection.execute(select(READERS.c.name).order_by(READERS.c.name)).scalars())


def _held(connection: Connection, places: Iterable[LogPartition]) -> Mapping[LogPartition, str | None]:
    """Return who reads each place, as far as anybody does."""
    wanted = {(place.topic, place.partition): place for place in places}
    holders = {(row.topic, row.partition): row.reader for row in connection.execute(select(POSITIONS))}
    new = [
        {"topic": place.topic, "partition": place.partition, "log": place.log, "next": 0}
        for key, place in sorted(wanted.items())
        if key not in holders
    ]
    if new:
        connection.execute(insert(connection, POSITIONS).on_conflict_do_nothing(), new)
    return {place: holders.get(key) for key, place in wanted.items()}


def _fair(places: int, living: list[str], reader: str, turn: int) -> int:
    """Return how many of a topic's places this reader may have. Places that cannot be shared evenly go to another
    reader in each topic.
    """
    whole, rest = divmod(places, len(living))
    return whole + ((living.index(reader) + turn) % len(living) < rest)


def _hand(connection: Connection, places: Iterable[LogPartition], from_: str | None, to: str | None) -> int:
    """Hand places from one reader to another; how many, since others may have been quicker."""
    handed = 0
    for place in places:
        held = POSITIONS.c.reader.is_(None) if from_ is None else POSITIONS.c.reader == from_
        here = POSITIONS.c.topic == place.topic, POSITIONS.c.partition == place.partition
        handed += connection.execute(update(POSITIONS).where(*here, held).values(reader=to)).rowcount
    return handed
